//! The name in a client certificate that was found valid.
//!
//! Reads the few fields of DER that hold names, and nothing else; who signed it is not known here.

use super::der::Der;
use crate::config::CertificateName;

/// The name of a certificate, if it has exactly one that can be a user name.
///
/// # Source
/// RFC 5280 sections 4.1 and 4.2.1.6, RFC 4514 for the whole subject.
pub fn name_of(certificate: &[u8], name: CertificateName) -> Option<String> {
    let fields = Fields::read(certificate)?;
    let found = match name {
        CertificateName::CommonName => only(common_names(fields.subject)?)?,
        CertificateName::Subject => subject_text(fields.subject)?,
        CertificateName::DnsName => only(alternative_names(fields.extensions?, DNS_NAME)?)?,
        CertificateName::Email => only(alternative_names(fields.extensions?, EMAIL)?)?,
        CertificateName::Uri => only(alternative_names(fields.extensions?, URI)?)?,
    };
    let fits = !found.is_empty() && found.len() <= NAME_BYTES_MAX;
    (fits && !found.contains(char::is_control)).then_some(found)
}

/// The texts of one attribute of the subject, in order.
pub(super) fn attributes_of(certificate: &[u8], kind: &[u8]) -> Vec<String> {
    let subject = Fields::read(certificate).map(|it| it.subject);
    let found = subject.and_then(attributes).unwrap_or_default();
    let wanted = found
        .into_iter()
        .filter(|(identifier, _)| *identifier == kind);
    wanted.map(|(_, text)| text).collect()
}

pub(super) struct Fields<'a> {
    /// Two times.
    pub(super) validity: &'a [u8],
    /// A sequence of sets of attributes.
    subject: &'a [u8],
    pub(super) extensions: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut outer = Der(certificate);
        let mut whole = Der(outer.take(SEQUENCE)?);
        let mut fields = Der(whole.take(SEQUENCE)?);
        fields.take_if(VERSION);
        fields.take(INTEGER)?;
        for _ in ["signature", "issuer"] {
            fields.take(SEQUENCE)?;
        }
        let validity = fields.take(SEQUENCE)?;
        let subject = fields.take(SEQUENCE)?;
        fields.take(SEQUENCE)?;
        fields.take_if(ISSUER_ID);
        fields.take_if(SUBJECT_ID);
        let extensions = match fields.take_if(EXTENSIONS) {
            Some(explicit) => Some(Der(explicit).take(SEQUENCE)?),
            None => None,
        };
        Some(Self {
            validity,
            subject,
            extensions,
        })
    }
}

/// Object identifier and text of each attribute.
fn attributes(subject: &[u8]) -> Option<Vec<(&[u8], String)>> {
    let mut found = Vec::new();
    let mut sets = Der(subject);
    while !sets.0.is_empty() {
        let mut set = Der(sets.take(SET)?);
        while !set.0.is_empty() {
            let mut attribute = Der(set.take(SEQUENCE)?);
            let identifier = attribute.take(OBJECT_IDENTIFIER)?;
            let (tag, text) = attribute.next()?;
            found.push((identifier, text_of(tag, text)?));
        }
    }
    Some(found)
}

fn text_of(tag: u8, bytes: &[u8]) -> Option<String> {
    let is_known = matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING);
    if !is_known || (tag != UTF8_STRING && !bytes.is_ascii()) {
        return None;
    }
    String::from_utf8(bytes.to_vec()).ok()
}

fn common_names(subject: &[u8]) -> Option<Vec<String>> {
    let attributes = attributes(subject)?.into_iter();
    Some(
        attributes
            .filter(|(identifier, _)| *identifier == COMMON_NAME)
            .map(|(_, text)| text)
            .collect(),
    )
}

fn subject_text(subject: &[u8]) -> Option<String> {
    let parts = attributes(subject)?.into_iter().rev();
    let parts = parts.map(|(identifier, text)| {
        let known = ATTRIBUTES.iter().find(|(it, _)| *it == identifier);
        Some(format!("{}={}", known?.1, escaped(&text)))
    });
    Some(parts.collect::<Option<Vec<_>>>()?.join(","))
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    let last = text.chars().count().saturating_sub(1);
    for (place, character) in text.chars().enumerate() {
        let is_special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let is_outer = character == ' ' && (place == 0 || place == last);
        if is_special || is_outer || (character == '#' && place == 0) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn alternative_names(extensions: &[u8], kind: u8) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for value in values_of(extensions, ALTERNATIVE_NAMES)? {
        let mut names = Der(Der(value).take(SEQUENCE)?);
        while !names.0.is_empty() {
            let (tag, name) = names.next()?;
            if tag == kind {
                found.push(text_of(IA5_STRING, name)?);
            }
        }
    }
    Some(found)
}

/// What the extensions of one kind hold.
pub(super) fn values_of<'a>(extensions: &'a [u8], kind: &[u8]) -> Option<Vec<&'a [u8]>> {
    let mut list = Der(extensions);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let mut extension = Der(list.take(SEQUENCE)?);
        let identifier = extension.take(OBJECT_IDENTIFIER)?;
        extension.take_if(BOOLEAN);
        let value = extension.take(OCTET_STRING)?;
        if identifier == kind {
            found.push(value);
        }
    }
    Some(found)
}

/// Two names are as bad as none: which one is meant?
fn only(mut names: Vec<String>) -> Option<String> {
    let name = names.pop()?;
    names.is_empty().then_some(name)
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0C;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xA0;
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xA3;
const EMAIL: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub(super) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
pub(super) const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 4, 11];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 17];
const ATTRIBUTES: [(&[u8], &str); 11] = [
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (ORGANIZATION, "O"),
    (ORGANIZATIONAL_UNIT, "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 1],
        "UID",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 1],
        "emailAddress",
    ),
];
/// As long as any text of MQTT.
const NAME_BYTES_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn each_kind_of_name_is_found() {
        let der = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::OrganizationName, "Acme, Inc");
            name.push(DnType::CommonName, "gerät-7");
            let text = |it: &str| it.try_into().expect("ASCII");
            params.subject_alt_names = vec![
                SanType::DnsName(text("d7.example")),
                SanType::Rfc822Name(text("d7@example")),
                SanType::URI(text("urn:d7")),
            ];
        });
        for (kind, name) in [
            (CertificateName::CommonName, "gerät-7"),
            (CertificateName::Subject, "CN=gerät-7,O=Acme\\, Inc"),
            (CertificateName::DnsName, "d7.example"),
            (CertificateName::Email, "d7@example"),
            (CertificateName::Uri, "urn:d7"),
        ] {
            assert_eq!(name_of(&der, kind).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_name_that_is_missing_repeated_or_not_text_is_none() {
        let two = certificate(|params| {
            let text = |it: &str| it.try_into().expect("ASCII");
            params.distinguished_name.push(DnType::CommonName, "a\nb");
            params.subject_alt_names =
                vec![SanType::DnsName(text("a")), SanType::DnsName(text("b"))];
        });
        for kind in [
            CertificateName::CommonName,
            CertificateName::DnsName,
            CertificateName::Email,
        ] {
            assert_eq!(name_of(&two, kind), None);
        }
        assert_eq!(
            name_of(&certificate(|_| {}), CertificateName::Subject),
            None
        );
    }

    #[test]
    fn broken_bytes_have_no_name() {
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "a");
        });
        for length in 0..der.len() {
            let name = name_of(&der[..length], CertificateName::CommonName);
            assert_eq!(name, None, "{length}");
        }
        for place in 0..der.len().min(200) {
            let mut broken = der.clone();
            broken[place] ^= 0xFF;
            let name = name_of(&broken, CertificateName::CommonName);
            assert!(name.is_none_or(|name| name.len() <= 2), "{place}");
        }
    }
}
