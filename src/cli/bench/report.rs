//! The result of a measurement, for people and as JSON.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::histogram::Histogram;
use super::process::Process;
use crate::cli::arguments::BenchArguments;

/// Numbers with names that end in their unit, in the order in which people read them.
#[derive(Default)]
pub(super) struct Report {
    entries: Vec<(&'static str, Entry)>,
}

enum Entry {
    Plain(Value),
    Steps(Vec<Report>),
}

impl Report {
    /// A report that starts with what was asked for.
    pub(super) fn of(arguments: &BenchArguments) -> Self {
        let mut report = Self::default();
        let scenario = arguments.scenario.to_possible_value();
        let scenario = scenario.as_ref().map_or("", |value| value.get_name());
        report.add("scenario", scenario);
        report.add("qos", arguments.qos as u8);
        report.add("clients", arguments.clients);
        report
    }

    pub(super) fn add(&mut self, key: &'static str, value: impl Into<Value>) {
        self.entries.push((key, Entry::Plain(value.into())));
    }

    pub(super) fn add_steps(&mut self, key: &'static str, steps: Vec<Self>) {
        self.entries.push((key, Entry::Steps(steps)));
    }

    /// The usual quantiles of a histogram of microseconds.
    pub(super) fn add_quantiles(&mut self, keys: [&'static str; 5], histogram: &Histogram) {
        let parts = [0.5, 0.9, 0.99, 0.999];
        for (key, part) in keys.into_iter().zip(parts) {
            self.add(key, histogram.quantile(part));
        }
        self.add(keys[4], histogram.max());
    }

    /// Processor time of server and generator for each of `messages`, and the server's memory.
    pub(super) fn add_cost(&mut self, cost: &Cost, messages: u64) {
        let each = |cpu_us: u64| cpu_us as f64 / messages.max(1) as f64;
        if let Some((cpu_us, (_, after))) = cost.server_cpu_us().zip(cost.server) {
            self.add("server_cpu_us_per_message", each(cpu_us));
            self.add("server_cpu_us", cpu_us);
            self.add("server_memory_peak_bytes", after.memory_peak_bytes);
        }
        let cpu_us = cost.generator_cpu_us();
        self.add("generator_cpu_us_per_message", each(cpu_us));
        self.add("generator_cpu_us", cpu_us);
    }

    pub(super) fn print(&self, is_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if is_json {
            return writeln!(out, "{}", self.json());
        }
        self.print_table(&mut out, "")?;
        out.flush()
    }

    fn json(&self) -> Value {
        let value = |entry: &Entry| match entry {
            Entry::Plain(value) => value.clone(),
            Entry::Steps(steps) => steps.iter().map(Self::json).collect(),
        };
        let entries = self.entries.iter();
        Value::Object(
            entries
                .map(|(key, entry)| ((*key).to_owned(), value(entry)))
                .collect::<Map<_, _>>(),
        )
    }

    fn print_table(&self, out: &mut impl Write, indent: &str) -> io::Result<()> {
        for (key, entry) in &self.entries {
            let label = key.replace('_', " ");
            match entry {
                Entry::Plain(Value::String(text)) => writeln!(out, "{indent}{label:<44}{text}")?,
                Entry::Plain(value) if value.is_f64() => {
                    let number = value.as_f64().unwrap_or_default();
                    writeln!(out, "{indent}{label:<44}{number:.3}")?;
                }
                Entry::Plain(value) => writeln!(out, "{indent}{label:<44}{value}")?,
                Entry::Steps(steps) => {
                    for step in steps {
                        writeln!(out)?;
                        step.print_table(out, "  ")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Counters of the processes before and after a measurement.
pub(super) struct Cost {
    server: Option<(Process, Process)>,
    generator: (Process, Process),
}

impl Cost {
    pub(super) fn server_cpu_us(&self) -> Option<u64> {
        self.server
            .map(|(before, after)| after.cpu_us - before.cpu_us)
    }

    pub(super) fn generator_cpu_us(&self) -> u64 {
        self.generator.1.cpu_us - self.generator.0.cpu_us
    }
}

/// Counters of the processes before a measurement.
pub(super) struct Meter {
    pid: Option<u32>,
    server: Option<Process>,
    generator: Process,
}

impl Meter {
    pub(super) fn start(pid: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            pid,
            server: pid.map(Process::read).transpose()?,
            generator: Process::read(std::process::id())?,
        })
    }

    pub(super) fn stop(self) -> io::Result<Cost> {
        let server = self.pid.map(Process::read).transpose()?;
        Ok(Cost {
            server: self.server.zip(server),
            generator: (self.generator, Process::read(std::process::id())?),
        })
    }
}

/// Messages per second.
pub(super) fn per_second(count: u64, elapsed_us: u64) -> f64 {
    count as f64 * 1e6 / elapsed_us.max(1) as f64
}
