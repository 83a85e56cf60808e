//! The result of a measurement, and the counters of the system that it needs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::json;

use crate::cli::arguments::BenchArguments;

/// Microseconds of one tick in `/proc/PID/stat`.
const TICK_US: u64 = 10_000;

/// Counters of the server's process.
pub(super) struct Process {
    cpu_us: u64,
    memory_peak_kib: u64,
}

impl Process {
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        let strange = || io::Error::other(format!("/proc/{pid} has an unknown form"));
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or_else(strange)?;
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse().ok())
            .collect();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory_peak_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .ok_or_else(strange)?;
        Ok(Self {
            cpu_us: ticks.iter().sum::<u64>() * TICK_US,
            memory_peak_kib,
        })
    }
}

/// What was measured.
pub(super) struct Report<'a> {
    pub(super) arguments: &'a BenchArguments,
    pub(super) delivered: u64,
    pub(super) elapsed_us: u64,
    pub(super) lost: u64,
    pub(super) duplicate: u64,
    pub(super) out_of_order: u64,
    /// Median, 99 %, 99.9 % and greatest.
    pub(super) latency_us: [u64; 4],
    /// The server before and after.
    pub(super) process: Option<(Process, Process)>,
}

impl Report<'_> {
    pub(super) fn print(&self) -> io::Result<()> {
        let arguments = self.arguments;
        let scenario = arguments.scenario.to_possible_value();
        let scenario = scenario.as_ref().map_or("", |value| value.get_name());
        let rate = self.delivered as f64 * 1e6 / self.elapsed_us.max(1) as f64;
        let [p50, p99, p999, max] = self.latency_us;
        let cpu_us = self.process.as_ref().map(|(before, after)| {
            (after.cpu_us - before.cpu_us) as f64 / self.delivered.max(1) as f64
        });
        let memory = self
            .process
            .as_ref()
            .map(|(_, after)| after.memory_peak_kib);
        let mut out = io::stdout().lock();
        if arguments.json {
            let result = json!({
                "scenario": scenario, "qos": arguments.qos as u8, "clients": arguments.clients,
                "payload_bytes": arguments.payload, "window": arguments.window,
                "seconds": self.elapsed_us as f64 / 1e6, "delivered": self.delivered,
                "delivered_per_second": rate, "lost": self.lost, "duplicate": self.duplicate,
                "out_of_order": self.out_of_order,
                "latency_us": { "p50": p50, "p99": p99, "p999": p999, "max": max },
                "server_cpu_us_per_delivered": cpu_us, "server_memory_peak_kib": memory,
            });
            return writeln!(out, "{result}");
        }
        let qos = arguments.qos as u8;
        writeln!(out, "scenario           {scenario}, QoS {qos}")?;
        writeln!(out, "clients            {}", arguments.clients)?;
        writeln!(out, "payload            {} B", arguments.payload)?;
        writeln!(out, "delivered          {}", self.delivered)?;
        writeln!(out, "delivered/s        {rate:.0}")?;
        writeln!(out, "lost               {}", self.lost)?;
        writeln!(out, "duplicate          {}", self.duplicate)?;
        writeln!(out, "out of order       {}", self.out_of_order)?;
        writeln!(out, "latency p50        {p50} us")?;
        writeln!(out, "latency p99        {p99} us")?;
        writeln!(out, "latency p99.9      {p999} us")?;
        writeln!(out, "latency max        {max} us")?;
        if let (Some(cpu_us), Some(memory)) = (cpu_us, memory) {
            writeln!(out, "server cpu/message {cpu_us:.3} us")?;
            writeln!(out, "server memory peak {memory} KiB")?;
        }
        Ok(())
    }
}
