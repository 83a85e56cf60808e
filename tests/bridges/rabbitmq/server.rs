//! A RabbitMQ of its own: node name, ports, cookie and data are those of one test run.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tidewire::clock::Clock;
use tokio::runtime::Runtime;

use crate::certificates;
use crate::process::{directory, free_port};

/// RabbitMQ starts slowly where many tests share few cores.
pub(crate) const START_MS: u64 = 60_000;

/// A running RabbitMQ; ended when dropped.
pub(crate) struct RabbitMq {
    child: Child,
    epmd: Child,
    ports: [u16; 3],
    pub(crate) port: u16,
    /// TLS for who shows a certificate of the authority in `ca.crt`.
    pub(crate) tls_port: u16,
    pub(crate) directory: PathBuf,
}

impl RabbitMq {
    pub(crate) fn start() -> Self {
        let directory = directory();
        let ports = [free_port(), free_port(), free_port()];
        let [port, _, epmd_port] = ports;
        std::fs::write(directory.join("plugins"), "[rabbitmq_amqp1_0].\n").expect("written");
        certificates::make(&directory);
        let tls_port = free_port();
        let text = CONFIG
            .replace("PORT", &tls_port.to_string())
            .replace("DIRECTORY", &directory.display().to_string());
        std::fs::write(directory.join("rabbitmq.conf"), text).expect("written");
        // Erlang would start one that outlives everything.
        let epmd = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd, which comes with rabbitmq-server");
        wait_until_open(epmd_port);
        let mut server = Self {
            child: spawn(&directory, ports),
            epmd,
            ports,
            port,
            tls_port,
            directory,
        };
        server.wait_until_open();
        server
    }

    /// kill -9, and the same node again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    pub(crate) fn kill(&mut self) {
        // The script, the virtual machine and its helpers are one group.
        let group = format!("-{}", self.child.id());
        // It fails if the server has ended by itself.
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.child.wait();
        // The virtual machine is a grandchild: it may end later than the script.
        let clock = Clock::start();
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            assert!(clock.now_ms() < START_MS, "RabbitMQ does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.directory, self.ports);
        self.wait_until_open();
    }

    /// Starts the server again if it ends, since a port of before may be in use for a moment.
    fn wait_until_open(&mut self) {
        let clock = Clock::start();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let output = || std::fs::read_to_string(self.directory.join("output"));
            assert!(clock.now_ms() < START_MS, "no RabbitMQ: {:?}", output());
            std::thread::sleep(Duration::from_millis(100));
            if self.child.try_wait().expect("a child").is_some() {
                self.child = spawn(&self.directory, self.ports);
            }
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// A queue that is bound with this key and outlives a kill: the server writes down what was
    /// declared when it has the time, and has lost bindings of just now.
    pub(crate) fn lasting_queue(&self, name: &str, key: &str) {
        self.client().queue(name, key);
        self.control(&["eval", "ok = mnesia:sync_log()."]);
    }

    /// Runs `rabbitmqctl`.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl");
        environment(&mut command, &self.directory, self.ports);
        let done = command.args(arguments).stdout(Stdio::null()).status();
        assert!(done.expect("rabbitmqctl").success(), "{arguments:?}");
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.kill();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &std::path::Path, ports: [u16; 3]) -> Child {
    let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    environment(&mut command, directory, ports);
    let log = std::fs::File::create(directory.join("output")).expect("created");
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("cloned"))
        .stderr(log)
        .spawn()
        .expect("rabbitmq-server, which tests/run installs")
}

fn environment(command: &mut Command, directory: &std::path::Path, ports: [u16; 3]) {
    let [port, distribution, epmd] = ports.map(|it| it.to_string());
    let file = |name: &str| directory.join(name).display().to_string();
    command.envs([
        ("RABBITMQ_NODENAME", format!("tidewire{port}@localhost")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", port),
        ("RABBITMQ_DIST_PORT", distribution),
        ("RABBITMQ_MNESIA_BASE", file("data")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_PID_FILE", file("pid")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins")),
        ("HOME", directory.display().to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", epmd),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
    ]);
}

fn wait_until_open(port: u16) {
    let clock = Clock::start();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(clock.now_ms() < START_MS, "port {port} stays closed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const CONFIG: &str = "log.file.level = warning
listeners.ssl.1 = 127.0.0.1:PORT
ssl_options.cacertfile = DIRECTORY/ca.crt
ssl_options.certfile = DIRECTORY/server.crt
ssl_options.keyfile = DIRECTORY/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
";

/// A message that lay in a queue.
pub(crate) struct Got {
    pub(crate) key: String,
    pub(crate) payload: String,
    pub(crate) properties: BasicProperties,
}

/// A client of RabbitMQ.
pub(crate) struct Client {
    runtime: Runtime,
    _connection: Connection,
    channel: Channel,
}

/// For a client whose library needs one.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

impl Client {
    fn connect(port: u16) -> Self {
        let runtime = runtime();
        let clock = Clock::start();
        loop {
            let connected = runtime.block_on(async {
                let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
                let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                let confirms = ConfirmSelectOptions::default();
                channel.confirm_select(confirms).await?;
                lapin::Result::Ok((connection, channel))
            });
            if let Ok((connection, channel)) = connected {
                return Self {
                    runtime,
                    _connection: connection,
                    channel,
                };
            }
            assert!(clock.now_ms() < START_MS, "{connected:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A durable queue that `amq.topic` feeds by this key.
    pub(crate) fn queue(&self, name: &str, key: &str) {
        self.queue_with(name, key, &[]);
    }

    /// The same with arguments.
    pub(crate) fn queue_with(&self, name: &str, key: &str, arguments: &[(&str, &str)]) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let mut table = FieldTable::default();
        for (argument, value) in arguments {
            table.insert((*argument).into(), AMQPValue::LongString((*value).into()));
        }
        let declared = self.channel.queue_declare(name.into(), options, table);
        self.runtime.block_on(declared).expect("a queue");
        self.bind(name, "amq.topic", key);
    }

    pub(crate) fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let (options, nothing) = (QueueBindOptions::default(), FieldTable::default());
        let channel = &self.channel;
        let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, nothing);
        self.runtime.block_on(bound).expect("a bound queue");
    }

    pub(crate) fn delete_queue(&self, name: &str) {
        let options = QueueDeleteOptions::default();
        let deleted = self.channel.queue_delete(name.into(), options);
        self.runtime.block_on(deleted).expect("deleted");
    }

    /// An exchange that is there for the first part and not for the second.
    pub(crate) fn exchange_comes_and<T>(
        &self,
        name: &str,
        with: impl FnOnce() -> T,
        without: impl FnOnce(T),
    ) {
        let (options, nothing) = (ExchangeDeclareOptions::default(), FieldTable::default());
        let kind = ExchangeKind::Topic;
        let made = self
            .channel
            .exchange_declare(name.into(), kind, options, nothing);
        self.runtime.block_on(made).expect("an exchange");
        let value = with();
        let options = ExchangeDeleteOptions::default();
        let deleted = self.channel.exchange_delete(name.into(), options);
        self.runtime.block_on(deleted).expect("deleted");
        without(value);
    }

    /// Publishes, and waits until the server has it on disk.
    pub(crate) fn publish(&self, key: &str, payload: &str, properties: BasicProperties) {
        self.publish_to("amq.topic", key, payload, properties);
    }

    pub(crate) fn publish_to(
        &self,
        exchange: &str,
        key: &str,
        payload: &str,
        properties: BasicProperties,
    ) {
        let published = self.runtime.block_on(async {
            let options = BasicPublishOptions::default();
            let (exchange, payload) = (exchange.into(), payload.as_bytes());
            let channel = &self.channel;
            let sent = channel.basic_publish(exchange, key.into(), options, payload, properties);
            sent.await?.await
        });
        let confirmation = published.expect("published");
        assert!(confirmation.is_ack(), "{confirmation:?}");
    }

    /// Takes what lies in a queue now, if anything does.
    pub(crate) fn poll(&self, queue: &str) -> Option<Got> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options);
        let got = self.runtime.block_on(got).expect("an answer")?;
        Some(Got {
            key: got.routing_key.as_str().to_owned(),
            payload: String::from_utf8_lossy(&got.data).into_owned(),
            properties: got.properties.clone(),
        })
    }

    /// The next message of a queue.
    pub(crate) fn get(&self, queue: &str) -> Got {
        let got = self.get_within(START_MS, queue);
        got.unwrap_or_else(|| panic!("nothing comes to {queue}"))
    }

    /// The next message of a queue, if one comes in time.
    pub(crate) fn get_within(&self, time_ms: u64, queue: &str) -> Option<Got> {
        let clock = Clock::start();
        while clock.now_ms() < time_ms {
            let got = self.poll(queue);
            if got.is_some() {
                return got;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}
