//! A disk that is full, and a disk that fails.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::client::{Client, Connect, Out};
use crate::filling::{drain, fill, publish_while};
use crate::program::{Directory, Program};
use crate::record::shim;

const NO_WATERMARK: &str = "[store]\ndisk_free_bytes_min = 0\n";
/// More than any disk has left.
const FULL: &str = "[store]\ndisk_free_bytes_min = 9_000_000_000_000_000_000\n";

/// Makes writes and flushes of the data file fail.
struct Faults {
    directory: PathBuf,
    /// For a shell that starts a broker.
    setup: String,
}

impl Faults {
    fn new(directory: &Directory) -> Self {
        let shim = shim(&directory.0, "tests/durability/fault.c");
        let faults = directory.0.join("faults");
        fs::create_dir(&faults).unwrap();
        let (faults_text, shim) = (faults.display(), shim.display());
        Self {
            setup: format!("export FAULTS='{faults_text}' LD_PRELOAD='{shim}'; "),
            directory: faults,
        }
    }

    fn start(&self, directory: &Directory, lines: &str) -> Program {
        Program::start_in_shell(directory, lines, &self.setup).unwrap()
    }

    fn begin(&self, fault: &str) {
        fs::write(self.directory.join(fault), "").unwrap();
    }

    fn end(&self, fault: &str) {
        fs::remove_file(self.directory.join(fault)).unwrap();
    }
}

/// Durable publishes are refused, and everything else goes on.
fn is_full(broker: &Program) {
    let mut writer = broker.passing("writer");
    for qos in [1, 2] {
        assert_eq!(writer.publish("a", qos, "0 x"), 0x97);
        assert_eq!(writer.publish_as(&Out::retained("r", qos, "0 x")), 0x97);
        let (mut old, _) = Client::connect(broker.address, &Connect::durable_3("old"));
        old.send(&Out::new("a", qos, "0 x").encode(4));
        assert_eq!(old.next(), None);
        assert!(old.is_ended);
    }
    let mut passing = broker.passing("passing");
    passing.subscribe("b", 1);
    assert_eq!(writer.publish("b", 1, "goes on"), 0);
    assert_eq!(passing.take(1), ["goes on"]);
}

#[test]
fn below_the_watermark_on_a_full_disk_deliveries_and_deletes_go_on() {
    let directory = Directory::new();
    let faults = Faults::new(&directory);
    let broker = faults.start(&directory, NO_WATERMARK);
    broker.leave_subscribed("reader", "a", 2);
    broker.leave_subscribed("old", "none", 2);
    // Leaves room inside of the file.
    let mut number = 0;
    let many = publish_while(&broker, &mut number, 8_000, |number, _| number < 400);
    drain(&broker, "reader", &many);
    let accepted = publish_while(&broker, &mut number, 8_000, |number, _| number < 600);
    assert!(accepted.len() > 100);
    drop(broker);
    faults.begin("full");
    let broker = faults.start(&directory, FULL);
    is_full(&broker);
    drain(&broker, "reader", &accepted);
    is_full(&broker);
    drop(broker);
    faults.end("full");
    let broker = faults.start(&directory, NO_WATERMARK);
    assert_eq!(broker.passing("writer").publish("a", 2, "0 x"), 0);
    assert_eq!(broker.resume("reader").take(1), ["0 x"]);
}

#[test]
fn a_disk_that_fills_up_unexpectedly_loses_nothing_acknowledged() {
    let directory = Directory::new();
    let faults = Faults::new(&directory);
    let mut broker = faults.start(&directory, NO_WATERMARK);
    broker.leave_subscribed("reader", "a", 1);
    let mut number = 0;
    let mut accepted = publish_while(&broker, &mut number, 8_000, |number, _| number < 100);
    faults.begin("full");
    let mut refused = 0;
    accepted.extend(publish_while(&broker, &mut number, 8_000, |_, reason| {
        assert!(matches!(reason, 0 | 0x97), "{reason:#x}");
        refused += u32::from(reason == 0x97);
        refused < 50
    }));
    faults.end("full");
    if refused < 50 {
        // Not even a delete found room.
        ended(&mut broker, "No space left on device");
        broker = Program::start(&directory);
    }
    assert_eq!(broker.passing("writer").publish("a", 1, "0 x"), 0);
    broker = broker.restart(&directory);
    drain(&broker, "reader", &accepted);
}

/// It ended as documented, and said why.
fn ended(broker: &mut Program, why: &str) {
    assert_eq!(broker.ends().code(), Some(3));
    let log = broker.log();
    for part in ["a commit failed", why, "The broker stops: check the disk"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

fn fails_with(fault: &str) {
    let directory = Directory::new();
    let faults = Faults::new(&directory);
    let mut broker = faults.start(&directory, NO_WATERMARK);
    broker.leave_subscribed("reader", "a", 1);
    let mut number = 0;
    let accepted = publish_while(&broker, &mut number, 2_000, |number, _| number < 200);
    faults.begin(fault);
    let late = publish_while(&broker, &mut number, 2_000, |_, _| true);
    assert_eq!(late, BTreeSet::new(), "acknowledged and not stored");
    ended(&mut broker, "Input/output error");
    // The disk has been mended.
    faults.end(fault);
    let broker = Program::start(&directory);
    drain(&broker, "reader", &accepted);
    assert_eq!(broker.passing("writer").publish("a", 1, "0 x"), 0);
}

#[test]
fn a_write_that_fails_ends_the_process_with_status_3() {
    fails_with("write");
}

#[test]
fn a_flush_that_fails_ends_the_process_with_status_3() {
    fails_with("flush");
}

#[test]
fn the_last_write_of_a_commit_that_fails_ends_the_process_with_status_3() {
    fails_with("meta");
}

/// A file system of its own for the store, in memory, where the machine lets us mount one.
struct SmallDisk {
    holder: Child,
    root: PathBuf,
    /// For a shell that starts a broker.
    setup: String,
}

impl SmallDisk {
    fn mounted(directory: &Directory, megabytes: u32) -> Option<Self> {
        let disk = Self::new(directory, megabytes);
        if disk.is_none() {
            eprintln!("no mounts here: the other tests of this file stand for this one");
        }
        disk
    }

    fn new(directory: &Directory, megabytes: u32) -> Option<Self> {
        let place = directory.store();
        fs::create_dir(&place).unwrap();
        let size = format!("size={megabytes}m");
        let script = "mount -t tmpfs -o \"$1\" none \"$0\" && echo mounted && cat";
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script])
            .args([place.as_os_str(), size.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let mut out = BufReader::new(holder.stdout.take()?);
        let is_mounted = out.read_line(&mut line).is_ok_and(|count| count > 0);
        let id = holder.id();
        let place = place.strip_prefix("/").unwrap();
        let disk = Self {
            root: Path::new("/proc").join(format!("{id}/root")).join(place),
            setup: format!(
                "exec nsenter -t {id} --user --mount --preserve-credentials \"$0\" \"$@\"; "
            ),
            holder,
        };
        // Dropped, it ends the holder.
        is_mounted.then_some(disk)
    }

    fn start(&self, directory: &Directory, lines: &str) -> Program {
        Program::start_in_shell(directory, lines, &self.setup).unwrap()
    }

    fn store_bytes(&self) -> u64 {
        fs::metadata(self.root.join("data.mdb")).unwrap().len()
    }

    /// Others take what is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.root.join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4_096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_small_disk_is_filled_and_drained_and_filled_again() {
    let directory = Directory::new();
    let Some(disk) = SmallDisk::mounted(&directory, 40) else {
        return;
    };
    let lines = "[store]\ndisk_free_bytes_min = 8_388_608\n";
    let mut broker = disk.start(&directory, lines);
    broker.leave_subscribed("reader", "a", 2);
    broker.leave_subscribed("old", "none", 2);
    let mut number = 0;
    for bytes in [8_000, 60_000] {
        let accepted = fill(&broker, &mut number, 1, bytes);
        disk.fill();
        is_full(&broker);
        drop(broker);
        broker = disk.start(&directory, lines);
        is_full(&broker);
        drain(&broker, "reader", &accepted);
        fs::remove_file(disk.root.join("filler")).unwrap();
        let mut writer = broker.passing("writer");
        // Nothing commits: the broker sees by itself that there is room.
        let mut tries = 0;
        while writer.publish("a", 1, "0 x") == 0x97 {
            tries += 1;
            assert!(tries < 100, "there is room again");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        broker.resume("reader").take(1);
    }
}

#[test]
fn a_small_disk_without_a_watermark_loses_nothing_acknowledged() {
    let directory = Directory::new();
    let Some(disk) = SmallDisk::mounted(&directory, 12) else {
        return;
    };
    let broker = disk.start(&directory, NO_WATERMARK);
    broker.leave_subscribed("reader", "a", 1);
    let mut number = 0;
    let accepted = fill(&broker, &mut number, 1, 8_000);
    assert!(accepted.len() > 500, "{}", accepted.len());
    drop(broker);
    let broker = disk.start(&directory, NO_WATERMARK);
    drain(&broker, "reader", &accepted);
    assert_eq!(broker.passing("writer").publish("a", 1, "0 x"), 0);
}

#[test]
fn a_message_that_would_take_the_last_blocks_of_a_disk_is_refused() {
    let directory = Directory::new();
    let Some(disk) = SmallDisk::mounted(&directory, 12) else {
        return;
    };
    let broker = disk.start(&directory, NO_WATERMARK);
    broker.leave_subscribed("reader", "a", 1);
    let mut number = 0;
    let goes_on = |_, reason| reason == 0 && disk.store_bytes() < 8_000_000;
    let accepted = publish_while(&broker, &mut number, 8_000, goes_on);
    assert!(accepted.len() > 900, "{}", accepted.len());
    let left = usize::try_from((12 << 20) - disk.store_bytes()).unwrap();
    let last = format!("0 {}", "x".repeat(left - 65_536));
    assert_eq!(broker.passing("writer").publish("a", 1, &last), 0x97);
    drain(&broker, "reader", &accepted);
    assert_eq!(broker.passing("writer").publish("a", 1, "0 x"), 0);
}
