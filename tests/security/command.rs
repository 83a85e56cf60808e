//! `tidewire acl test` and `tidewire check`, as an operator calls them.

use std::process::Command;

use super::broker::Directory;

fn tidewire(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let status = output.status.code().unwrap();
    (status, String::from_utf8(said).unwrap())
}

#[test]
fn acl_test_says_which_rule_decides() {
    let files = Directory::new();
    let acl = "user alice\ntopic write a/#\ntopic deny a/secret\npattern read d/%c/#\n";
    let acl = files.write("acl", acl);
    let config = "[acl]\nfile = \"FILE\"\nsuperusers = [\"root\"]\n\n[[acl.rules]]\n\
                  clients = [\"dash\"]\nactions = [\"read\"]\ntopics = [\"#\"]\n";
    let config = config.replace("FILE", acl.to_str().unwrap());
    let config = files.write("config.toml", &config);
    let config = config.to_str().unwrap();
    for (words, status, said) in [
        (
            "--user alice --client c publish a/b",
            0,
            "allowed: publish a/b: ACL:2 (allow a/#)",
        ),
        (
            "--user alice --client c publish a/secret",
            1,
            "denied: publish a/secret: ACL:3 (deny",
        ),
        (
            "--user bob --client c publish a/b",
            1,
            "denied: publish a/b: no rule matches",
        ),
        (
            "--user bob --client c subscribe d/c/#",
            0,
            "ACL:4 (allow d/%c/#)",
        ),
        (
            "--client dash subscribe $share/g/x",
            0,
            "allowed: share x: acl.rules.0 (allow #)",
        ),
        ("--user root publish x", 0, "the user is a superuser"),
        (
            "--user root publish $SYS/x",
            1,
            "denied: no client publishes",
        ),
        (
            "--user alice --retain publish a/b",
            0,
            "allowed: retain a/b",
        ),
        (
            "--user bob subscribe #",
            0,
            "what is received is checked topic by topic",
        ),
    ] {
        let mut arguments = vec!["acl", "test", "-c", config];
        arguments.extend(words.split(' '));
        let (code, out) = tidewire(&arguments);
        let out = out.replace(acl.to_str().unwrap(), "ACL");
        assert!(
            code == status && out.contains(said),
            "{words}: {code} {out}"
        );
    }
}

#[test]
fn acl_test_asks_about_the_topics_of_the_broker_as_the_broker_does() {
    let files = Directory::new();
    let config = "[[auth.namespaces]]\nname = \"acme\"\nusers = [\"alice\"]\n\
                  certificates = [\"gate\"]\n[[acl.rules]]\nactions = [\"all\"]\n\
                  topics = [\"acme/s/#\", \"plant/acme/t\"]\n";
    let config = files.write("config.toml", config);
    for (words, status, said) in [
        ("--user bob publish acme/s/1", 0, "publish acme/s/1: acl"),
        (
            "--user alice publish acme/s/1",
            1,
            "publish acme/acme/s/1: no",
        ),
        (
            "--user alice publish s/1",
            0,
            "publish acme/s/1: acl.rules.0",
        ),
        (
            "--user alice publish s/1",
            0,
            "of the client are below acme/\n",
        ),
        (
            "--certificate gate subscribe $share/g/s/#",
            0,
            "share acme/s/#",
        ),
        (
            "--user bob --namespace acme receive s/1",
            0,
            "receive acme/s/1",
        ),
        (
            "--user alice --namespace other publish s/1",
            1,
            "other/s/1: no",
        ),
        (
            "--user alice --mount-point plant/ will t",
            0,
            "will plant/acme/t",
        ),
        (
            "--user alice publish $delayed/3/s/1",
            0,
            "publish acme/s/1: acl",
        ),
        (
            "publish $delayed/3/acme/s/1",
            0,
            "publish acme/s/1: acl.rules.0",
        ),
        ("publish $delayed/acme/s/1", 1, "lacks its seconds"),
        ("publish $delayed/3/$SYS/a", 1, "no client publishes"),
        ("will $delayed/3/acme/s/1", 1, "no client publishes"),
        ("--user alice publish $x", 1, "$x does not exist below"),
        ("--namespace a/b publish x", 2, "must be one level"),
        ("--mount-point a publish x", 2, "ending with `/`"),
    ] {
        let mut arguments = vec!["acl", "test", "-c", config.to_str().unwrap()];
        arguments.extend(words.split(' '));
        let (code, out) = tidewire(&arguments);
        assert!(
            code == status && out.contains(said),
            "{words}: {code} {out}"
        );
    }
}

#[test]
fn acl_test_takes_the_mount_point_that_all_listeners_have() {
    let files = Directory::new();
    let listener = |mount_point: &str| {
        format!("[[listeners]]\nbind = \"127.0.0.1:0\"\nmount_point = \"{mount_point}\"\n")
    };
    let said = |config: String| {
        let config = files.write("config.toml", &config);
        tidewire(&[
            "acl",
            "test",
            "-c",
            config.to_str().unwrap(),
            "publish",
            "x",
        ])
        .1
    };
    assert!(said(listener("a/")).contains("allowed: publish a/x"));
    let both = said(listener("a/") + &listener("b/"));
    assert!(both.contains("(a/, b/): --mount-point says"), "{both}");
    assert!(both.contains("allowed: publish x"), "{both}");
}

#[test]
fn check_and_run_refuse_a_malformed_acl_file_with_status_2() {
    let files = Directory::new();
    let acl = files.write("acl", "topic a\nnonsense\n");
    let config = format!("[acl]\nfile = {acl:?}\n");
    let config = files.write("config.toml", &config);
    for command in ["check", "run"] {
        let (status, said) = tidewire(&[command, "-c", config.to_str().unwrap()]);
        assert_eq!(status, 2);
        assert!(said.contains("acl:2: expected `user`"), "{said}");
    }
}

#[test]
fn reload_checks_the_files_and_then_tells_the_broker() {
    let files = Directory::new();
    let acl = files.write("acl", "topic a\n");
    let pid_file = files.path("pid");
    let config = format!(
        "pid_file = {pid_file:?}\nsys_interval_seconds = 0\n[[listeners]]\n\
         bind = \"127.0.0.1:0\"\n[acl]\nfile = {acl:?}\n[store]\nengine = \"memory\"\n"
    );
    let config = files.write("config.toml", &config);
    let config = config.to_str().unwrap();
    let (status, said) = tidewire(&["reload", "-c", config]);
    assert!(
        status != 0 && said.contains("is the broker running?"),
        "{said}"
    );
    let mut broker = Process::start(config);
    let (status, said) = tidewire(&["reload", "-c", config]);
    assert_eq!(
        (status, said.contains("reads its configuration again")),
        (0, true),
        "{said}"
    );
    broker.expect("configuration reloaded");
    files.write("acl", "nonsense\n");
    let (status, said) = tidewire(&["reload", "-c", config]);
    assert!(
        status == 2 && said.contains("acl:1: expected"),
        "{status} {said}"
    );
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    broker.expect("configuration not reloaded, nothing is changed");
    // The number may belong to another program by now.
    files.write("pid", &format!("{}\n", std::process::id()));
    files.write("acl", "topic a\n");
    let (_, said) = tidewire(&["reload", "-c", config]);
    assert!(said.contains("not the process id of a broker"), "{said}");
}

#[test]
fn a_reload_over_the_control_socket_answers_what_came_of_it() {
    let files = Directory::new();
    let (socket, pid_file) = (files.path("control"), files.path("pid"));
    let with = |more: &str| {
        let config = format!(
            "control_socket = {socket:?}\npid_file = {pid_file:?}\nsys_interval_seconds = 0\n\
             shards = 1\n[store]\nengine = \"memory\"\n[[listeners]]\nbind = \"127.0.0.1:0\"\n"
        );
        let path = files.write("config.toml", &(config + more));
        path.to_str().unwrap().to_owned()
    };
    let config = with("");
    let reload = |config: &str| tidewire(&["reload", "-c", config]);
    let _broker = Process::start(&config);
    assert_eq!(reload(&config), (0, "configuration reloaded\n".into()));
    let waits = "configuration reloaded; some keys wait for the next start: log\n";
    assert_eq!(
        reload(&with("[log]\nlevel = \"warn\"\n")),
        (0, waits.into())
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let (status, said) = reload(&with(&format!("[[listeners]]\nbind = \"{taken}\"\n")));
    let refused = format!("nothing is changed: cannot listen on {taken}");
    assert!(status == 1 && said.contains(&refused), "{status} {said}");
    let config = with("");
    let (status, said) = tidewire(&["reload", "-c", &config, "--control-socket", "/nowhere"]);
    assert!(
        status == 1 && said.contains("is the broker running?"),
        "{said}"
    );
    let pid_file = pid_file.to_str().unwrap();
    let (status, said) = tidewire(&["reload", "-c", &config, "--pid-file", pid_file]);
    assert!(
        status == 0 && said.contains("only its log says"),
        "a signal answers nothing: {said}"
    );
}

#[test]
fn a_watched_file_is_read_again_once_it_is_whole() {
    let files = Directory::new();
    let acl = files.write("acl", "topic a\n");
    let config = format!(
        "watch_files_seconds = 1\nsys_interval_seconds = 0\n[[listeners]]\n\
         bind = \"127.0.0.1:0\"\n[acl]\nfile = {acl:?}\n[store]\nengine = \"memory\"\n"
    );
    let config = files.write("config.toml", &config);
    let mut broker = Process::start(config.to_str().unwrap());
    files.write("acl", "topic read b\n");
    broker.expect("configuration reloaded");
    files.write("acl", "topic read half");
    broker.expect("configuration not reloaded, nothing is changed");
}

#[test]
fn a_file_that_others_can_read_is_warned_of_once_at_the_start_and_once_by_each_reload() {
    let files = Directory::new();
    let users = files.write("users", &super::broker::users(&["alice"]));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&users, mode).unwrap();
    let socket = files.path("control");
    let config = format!(
        "control_socket = {socket:?}\nsys_interval_seconds = 0\n[[listeners]]\n\
         bind = \"127.0.0.1:0\"\n[auth]\npassword_file = {users:?}\n[store]\nengine = \"memory\"\n"
    );
    let config = files.write("config.toml", &config);
    let config = config.to_str().unwrap();
    let (mut broker, mut said) = Process::start_saying(config);
    for _ in 0..2 {
        assert_eq!(tidewire(&["reload", "-c", config]).0, 0);
        said.extend(broker.lines_before("configuration reloaded"));
    }
    let warnings = said
        .iter()
        .filter(|it| it.contains("can read the password file"));
    assert_eq!(warnings.count(), 3, "{said:#?}");
}

/// A broker of its own, ended with the test.
struct Process {
    child: std::process::Child,
    log: std::sync::mpsc::Receiver<String>,
}

impl Process {
    fn start(config: &str) -> Self {
        Self::start_saying(config).0
    }

    /// And what it says before it is ready.
    fn start_saying(config: &str) -> (Self, Vec<String>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(["run", "-c", config])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = std::sync::mpsc::channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for output in outputs {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
                    let Ok(line) = line else { return };
                    let _ = lines.send(line);
                }
            });
        }
        let mut this = Self { child, log };
        let said = this.lines_before("is ready");
        (this, said)
    }

    /// A line with this text comes.
    fn expect(&mut self, text: &str) {
        self.lines_before(text);
    }

    fn lines_before(&mut self, text: &str) -> Vec<String> {
        let mut said = Vec::new();
        while let Ok(line) = self.log.recv_timeout(std::time::Duration::from_secs(20)) {
            if line.contains(text) {
                return said;
            }
            said.push(line);
        }
        panic!("no line with {text:?}: {said:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
