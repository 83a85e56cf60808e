//! Authorities and certificates made for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, date_time_ymd,
};
use tidewire::config::{Certificate, Listener, Transport};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use crate::broker::{Broker, folder, listener, open};
use crate::client::Client;

pub(crate) type TlsStream = StreamOwned<ClientConnection, std::net::TcpStream>;

pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = folder("certificates");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of its own name, else a foreign authority seems to be ours with a wrong signature.
        let name = folder.display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = folder.join("ca.crt");
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            folder,
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// Signs a certificate for these host names, changed before it is signed.
    pub(crate) fn sign(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Certificate {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    pub(crate) fn server(&self, name: &str) -> Certificate {
        self.sign(name, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    pub(crate) fn client(&self, name: &str) -> Certificate {
        self.sign(name, ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    pub(crate) fn expired_client(&self) -> Certificate {
        self.sign("expired", ExtendedKeyUsagePurpose::ClientAuth, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// A list that revokes the certificate with this serial number, which ends in a year.
    pub(crate) fn revoke(&self, serial_number: u64, end_year: i32) -> PathBuf {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(end_year, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: serial_number.into(),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.join(format!("{serial_number}-{end_year}.crl"));
        let list = list.signed_by(&self.issuer).unwrap();
        std::fs::write(&path, list.pem().unwrap()).unwrap();
        path
    }

    /// A TLS listener with a certificate of this authority.
    pub(crate) fn listener(&self) -> Listener {
        Listener {
            transport: Transport::Tls,
            certificates: vec![self.server("localhost")],
            ..listener()
        }
    }

    /// A TLS client that trusts this authority, before its handshake.
    pub(crate) fn open(&self, broker: &Broker, wish: Wish<'_>) -> Client<TlsStream> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.file)).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(wish.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match wish.certificate {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
                let chain = vec![der(&pair.certificate)];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = wish.alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(wish.host.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = open(broker.addresses[wish.listener]).stream;
        Client::new(StreamOwned::new(session, socket))
    }
}

pub(crate) static TLS_1_2: [&SupportedProtocolVersion; 1] = [&version::TLS12];
pub(crate) static TLS_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];
static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// How a TLS client comes.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) listener: usize,
    pub(crate) host: &'a str,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) certificate: Option<&'a Certificate>,
    pub(crate) alpn: &'a [&'a str],
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            listener: 0,
            host: "localhost",
            versions: &BOTH,
            certificate: None,
            alpn: &[],
        }
    }
}

pub(crate) fn der(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}
