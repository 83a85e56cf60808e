//! The program itself: signals, exit status, files it leaves and files it is short of.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::broker::{folder, open};
use crate::certificates::Authority;
use crate::client::publish;

struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    /// Runs `tidewire run` in a shell, after the shell's `setup`.
    fn start(setup: &str, arguments: &str) -> Self {
        let binary = env!("CARGO_BIN_EXE_tidewire");
        let run = format!("exec {binary} run --listen tcp://127.0.0.1:0 {arguments}");
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{setup}{run}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("mqtt://")?.1.parse().ok()
        });
        Self {
            child,
            address: address.unwrap(),
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(status.success());
    }

    fn ends(&mut self) -> ExitStatus {
        for _ in 0..800 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the program goes on");
    }

    /// Time on a processor so far, in hundredths of a second.
    fn processor_time(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<_> = fields.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended as the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sigterm_says_goodbye_and_leaves_nothing_behind() {
    let path = folder("stop").join("broker.sock");
    for signal in ["-TERM", "-INT"] {
        let arguments = format!("--listen unix://{}", path.display());
        let mut program = Program::start("", &arguments);
        assert!(path.exists());
        let mut clients = [open(program.address), open(program.address)];
        for (number, client) in clients.iter_mut().enumerate() {
            client.connect(&format!("client-{number}"));
        }
        program.signal(signal);
        for client in &mut clients {
            let last = client.packet();
            assert_eq!((last.first, last.body[0]), (0xe0, 0x8b), "DISCONNECT");
            assert_eq!(client.until_closed(), b"");
        }
        assert_eq!(program.ends().code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn a_second_signal_ends_a_stop_that_takes_long() {
    let mut program = Program::start(
        "TIDEWIRE_MQTT_SHUTDOWN_SECONDS=3600; export TIDEWIRE_MQTT_SHUTDOWN_SECONDS; ",
        "",
    );
    let mut slow = open(program.address);
    slow.connect("slow");
    slow.subscribe("a", 0);
    let mut publisher = open(program.address);
    publisher.connect("publisher");
    // More than the sockets between hold, so that the last packet cannot be written.
    for _ in 0..160 {
        publisher.send(&publish("a", 0, 0, &[b'x'; 100_000]));
    }
    publisher.ping();
    program.signal("-TERM");
    let last = publisher.packet();
    assert_eq!((last.first, last.body[0]), (0xe0, 0x8b), "DISCONNECT");
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        program.child.try_wait().unwrap().is_none(),
        "it waits for the slow one"
    );
    program.signal("-TERM");
    let status = program.ends();
    assert_eq!((status.code(), status.signal()), (Some(1), None));
}

#[test]
fn without_file_descriptors_the_broker_waits_and_then_goes_on() {
    let program = Program::start("ulimit -n 60; ", "--shards 3 --log error");
    let mut clients: Vec<_> = (0..100).map(|_| open(program.address)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before = program.processor_time();
    std::thread::sleep(Duration::from_millis(1_000));
    let spent = program.processor_time() - before;
    assert!(spent < 30, "{spent} hundredths of a second in a second");
    clients.clear();
    let mut client = open(program.address);
    client.connect("after");
    client.ping();
}

fn check(certificate: &Path, key: &Path) -> (Option<i32>, String) {
    let url = format!(
        "tls://127.0.0.1:0?cert={}&key={}",
        certificate.display(),
        key.display()
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(["check", "--listen", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut errors).unwrap();
    (child.wait().unwrap().code(), errors)
}

#[test]
fn check_finds_a_key_that_does_not_fit_its_certificate() {
    let authority = Authority::new();
    let (one, two) = (authority.server("one"), authority.server("two"));
    assert_eq!(check(&one.certificate, &one.key).0, Some(0));
    let (status, errors) = check(&one.certificate, &two.key);
    assert_eq!(status, Some(2), "{errors}");
    let names_the_key = errors.contains(&two.key.display().to_string());
    assert!(names_the_key && errors.contains("KeyMismatch"), "{errors}");
    let (status, errors) = check(&one.certificate, Path::new("/nowhere/server.key"));
    assert_eq!(status, Some(2), "{errors}");
    assert!(errors.contains("/nowhere/server.key"), "{errors}");
}
