//! TLS below a bridge. Its errors say whether somebody has to see to a certificate.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidewire_bridges::{Failure, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, ClientConfig, Error};

/// A stream within TLS.
#[derive(Debug)]
struct Encrypted(TlsStream<Box<dyn Stream>>);

/// Begins with TLS.
///
/// # Errors
/// The handshake failed; the server may refuse our certificate later, when something is read.
pub(super) async fn connect(
    config: ClientConfig,
    name: ServerName<'static>,
    stream: Box<dyn Stream>,
) -> io::Result<Box<dyn Stream>> {
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(in_words)?;
    Ok(Box::new(Encrypted(stream)))
}

/// Lets an error about a certificate carry its failure; others stay as they are.
fn in_words(error: io::Error) -> io::Error {
    let known = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
    match known {
        Some(Error::InvalidCertificate(_)) => io::Error::other(Failure::refused(error)),
        Some(Error::AlertReceived(alert)) if is_about_ours(*alert) => {
            let text = format!("the server refuses our certificate: {error}");
            io::Error::other(Failure::refused(text))
        }
        _ => error,
    }
}

fn is_about_ours(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        read.map_err(in_words)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(context, bytes);
        written.map_err(in_words)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(context, slices);
        written.map_err(in_words)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context).map_err(in_words)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0)
            .poll_shutdown(context)
            .map_err(in_words)
    }
}

#[cfg(test)]
mod tests {
    use tidewire_bridges::Class;
    use tokio_rustls::rustls::CertificateError;

    use super::*;

    fn class(error: Error) -> Class {
        let error = in_words(io::Error::new(io::ErrorKind::InvalidData, error));
        Failure::of_stream("lost", &error).class
    }

    #[test]
    fn a_certificate_that_is_not_taken_is_somebodys_to_replace() {
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(class(expired), Class::Refused);
        let ours = Error::AlertReceived(AlertDescription::CertificateExpired);
        assert_eq!(class(ours), Class::Refused);
        let other = Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(class(other), Class::Retry);
    }
}
