//! A real HTTP server, with or without TLS, that answers what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(crate) struct WebServer {
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    answer: Mutex<Answer>,
    count: AtomicUsize,
}

#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) after: Duration,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            after: Duration::ZERO,
        }
    }
}

impl WebServer {
    pub(crate) fn plain(answer: Answer) -> Self {
        Self::start("http", answer, serve)
    }

    /// With the server certificate of [`Certificates`].
    pub(crate) fn secure(certificates: &Certificates, answer: Answer) -> Self {
        let config = certificates.server_config();
        Self::start("https", answer, move |stream, state| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(StreamOwned::new(session, stream), state);
        })
    }

    fn start(
        scheme: &str,
        answer: Answer,
        serve: impl Fn(TcpStream, &State) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        *state.answer.lock().unwrap() = answer;
        let of_thread = Arc::clone(&state);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, serve) = (Arc::clone(&of_thread), Arc::clone(&serve));
                thread::spawn(move || serve(stream, &state));
            }
        });
        let url = format!("{scheme}://localhost:{port}/path");
        Self { url, state }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// How many questions were answered.
    pub(crate) fn count(&self) -> usize {
        self.state.count.load(Ordering::SeqCst)
    }
}

fn serve(stream: impl Read + Write, state: &State) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        // A client that does not trust us ends here.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    state.count.fetch_add(1, Ordering::SeqCst);
    let Answer {
        status,
        body,
        after,
    } = state.answer.lock().unwrap().clone();
    thread::sleep(after);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {length}");
    let mut stream = reader.into_inner();
    // The broker may have given up.
    let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
    let _ = stream.flush();
}

/// An authority and a server certificate for localhost, gone with the test.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidewire-web-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let hosts = ["localhost".to_owned()];
        tidewire::cli::certs::write_development_certificates(&folder, &hosts).unwrap();
        Self(folder)
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let certificate = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
        let chain = vec![certificate(&self.0.join("server.crt"))];
        let key = PrivateKeyDer::from_pem_file(self.0.join("server.key")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
