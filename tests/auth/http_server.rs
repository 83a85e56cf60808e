//! A real HTTP server that answers by user name.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

pub(crate) struct HttpServer {
    pub(crate) url: String,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) questions: Mutex<Vec<(String, Value)>>,
    at_once: AtomicUsize,
    pub(crate) at_once_max: AtomicUsize,
}

impl HttpServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/login", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let of_thread = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&of_thread);
                thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { url, seen }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.questions.lock().unwrap().len()
    }
}

fn serve(mut stream: TcpStream, seen: &Seen) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let question: Value = serde_json::from_slice(&body).unwrap();
    let user_name = question["user_name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    seen.questions.lock().unwrap().push((head, question));
    let at_once = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    seen.at_once_max.fetch_max(at_once, Ordering::SeqCst);
    let answer = answer(&user_name);
    seen.at_once.fetch_sub(1, Ordering::SeqCst);
    // The broker may have given up.
    let _ = stream.write_all(answer.as_bytes());
}

fn answer(user_name: &str) -> String {
    let allow = r#"{"result":"allow"}"#;
    let body = match user_name {
        "denied" => r#"{"result":"deny"}"#.into(),
        "super" => r#"{"result":"allow","is_superuser":true}"#.into(),
        "ruled" => r#"{"result":"allow","acl":[{"actions":["read"],"topics":["mine/#"]}]}"#.into(),
        "guest" => r#"{"result":"allow","expires_seconds":1}"#.into(),
        "worker" => r#"{"result":"allow","groups":["drivers","staff"]}"#.into(),
        "driver" => r#"{"result":"allow","groups":["drivers"]}"#.into(),
        "grouped" => r#"{"result":"allow","groups":"staff"}"#.into(),
        "ignored" => r#"{"result":"ignore"}"#.into(),
        "garbage" => "<html>allow</html>".into(),
        "empty" => String::new(),
        "huge" => format!(r#"{{"result":"allow","more":"{}"}}"#, "x".repeat(100_000)),
        "slow" => {
            thread::sleep(Duration::from_millis(400));
            allow.into()
        }
        _ => String::from(allow),
    };
    let status = match user_name {
        "error" => "500 Internal Server Error",
        "forbidden" => "403 Forbidden",
        "moved" => "302 Found\r\nlocation: /login",
        "silent" => return String::new(),
        "nonsense" => return "SSH-2.0-OpenSSH\r\n".into(),
        _ => "200 OK",
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}
