//! How the payload of a record is written on the other side.
//!
//! On the way out a payload is written in this way, on the way in it is read. What cannot be read,
//! or not be written, is an error that says why; nothing here guesses.

mod envelope;
#[cfg(test)]
mod tests;

use base64ct::{Base64, Encoding};
use bytes::Bytes;

use crate::{Context, Record, Template, TemplateError};

/// A way to write payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PayloadCodec {
    /// As it is.
    #[default]
    Raw,
    /// As it is, and it has to be UTF-8.
    Text,
    /// In base64 on the other side.
    Base64,
    /// In its place a text with placeholders, in either direction.
    Template(Template),
    /// In a JSON object on the other side, with topic and properties.
    JsonEnvelope,
    /// The same in CBOR.
    CborEnvelope,
}

/// Why a payload cannot be written, or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It has to be text.
    #[error("the payload is no text: byte {0} is no UTF-8")]
    NotText(usize),
    /// It has to be base64.
    #[error("the payload is no base64 (RFC 4648 section 4, with padding)")]
    NotBase64,
    /// It has to be an envelope.
    #[error("the payload is no {kind} envelope: {problem}")]
    Envelope {
        /// JSON or CBOR.
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl PayloadCodec {
    /// The text that takes the place of the payload, if one does; to be asked for before the record
    /// is changed.
    ///
    /// # Errors
    /// The record has no value for a placeholder.
    pub fn text(
        &self,
        record: &Record,
        context: Context<'_>,
    ) -> Result<Option<String>, TemplateError> {
        match self {
            Self::Template(template) => template.fill(record, context).map(Some),
            _ => Ok(None),
        }
    }

    /// Writes the payload of a record on its way out, which still has the topic of this side.
    ///
    /// # Errors
    /// The payload cannot be written in this way.
    pub fn encode(&self, record: &mut Record, text: Option<String>) -> Result<(), PayloadError> {
        match self {
            Self::Raw => {}
            Self::Text => check_text(record)?,
            Self::Base64 => give_text(record, Base64::encode_string(&record.payload)),
            Self::Template(_) => give_text(record, text.unwrap_or_default()),
            Self::JsonEnvelope => give_text(record, envelope::to_json(record)),
            Self::CborEnvelope => {
                let bytes = envelope::to_cbor(record)?;
                give_bytes(record, bytes);
            }
        }
        Ok(())
    }

    /// Reads the payload of a record on its way in; an envelope brings properties along.
    ///
    /// # Errors
    /// The payload is not written in this way.
    pub fn decode(&self, record: &mut Record, text: Option<String>) -> Result<(), PayloadError> {
        match self {
            Self::Raw => {}
            Self::Text => check_text(record)?,
            Self::Base64 => {
                let text = str::from_utf8(&record.payload).map_err(|_| PayloadError::NotBase64)?;
                let bytes = Base64::decode_vec(text.trim_end());
                give_bytes(record, bytes.map_err(|_| PayloadError::NotBase64)?);
            }
            Self::Template(_) => give_text(record, text.unwrap_or_default()),
            Self::JsonEnvelope => envelope::open_json(record)?,
            Self::CborEnvelope => envelope::open_cbor(record)?,
        }
        Ok(())
    }
}

fn check_text(record: &mut Record) -> Result<(), PayloadError> {
    str::from_utf8(&record.payload).map_err(|error| PayloadError::NotText(error.valid_up_to()))?;
    record.properties.get_or_insert_default().payload_is_utf8 = Some(true);
    Ok(())
}

fn give_text(record: &mut Record, text: String) {
    record.payload = Bytes::from(text);
    record.properties.get_or_insert_default().payload_is_utf8 = Some(true);
}

/// What was said of the payload before holds no more.
fn give_bytes(record: &mut Record, bytes: Vec<u8>) {
    record.payload = Bytes::from(bytes);
    if let Some(properties) = &mut record.properties {
        properties.payload_is_utf8 = None;
    }
}
