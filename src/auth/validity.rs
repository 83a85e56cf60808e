//! When a certificate or a revocation list holds, and what a certificate is for.
//!
//! Reads what warns an operator before clients do; whether a peer is believed is not decided here.

use super::certificate::{Fields, values_of};
use super::der::Der;

/// What a certificate says about its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From when on it holds.
    pub begins: Moment,
    /// Until when it holds.
    pub ends: Moment,
    /// Whether a server may show it.
    pub is_for_servers: bool,
}

/// A point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub unix_seconds: i64,
    /// Year, month and day.
    pub date: String,
}

impl Validity {
    /// That of a certificate; `None` if it cannot be read.
    ///
    /// # Source
    /// RFC 5280 sections 4.1.2.5 and 4.2.1.12.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let fields = Fields::read(certificate)?;
        let mut times = Der(fields.validity);
        let uses = match fields.extensions {
            Some(extensions) => values_of(extensions, EXTENDED_KEY_USAGE)?,
            None => Vec::new(),
        };
        // Without the extension it is for everything.
        let mut is_for_servers = true;
        for value in uses {
            let mut purposes = Der(Der(value).take(SEQUENCE)?);
            is_for_servers = false;
            while !purposes.0.is_empty() {
                let purpose = purposes.take(OBJECT_IDENTIFIER)?;
                is_for_servers |= purpose == SERVER || purpose == ANY_PURPOSE;
            }
        }
        Some(Self {
            begins: moment(&mut times)?,
            ends: moment(&mut times)?,
            is_for_servers,
        })
    }
}

/// When a revocation list is to be replaced; `None` if it does not say.
///
/// # Source
/// RFC 5280 section 5.1.
pub fn next_update(list: &[u8]) -> Option<Moment> {
    let mut outer = Der(list);
    let mut whole = Der(outer.take(SEQUENCE)?);
    let mut fields = Der(whole.take(SEQUENCE)?);
    fields.take_if(INTEGER);
    for _ in ["signature", "issuer"] {
        fields.take(SEQUENCE)?;
    }
    let _this_update = moment(&mut fields)?;
    moment(&mut fields)
}

/// `YYMMDDHHMMSSZ` as UTCTime, with the century as GeneralizedTime: RFC 5280 section 4.1.2.5.
fn moment(fields: &mut Der<'_>) -> Option<Moment> {
    let (tag, bytes) = fields.next()?;
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    let is_number = text.bytes().all(|it| it.is_ascii_digit());
    let century = match tag {
        UTC_TIME if text.get(..2)? < "50" => "20",
        UTC_TIME => "19",
        GENERALIZED_TIME => "",
        _ => return None,
    };
    let text = format!("{century}{text}");
    if !is_number || text.len() != "YYYYMMDDHHMMSS".len() {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let seconds = (part(8, 10)? * 60 + part(10, 12)?) * 60 + part(12, 14)?;
    Some(Moment {
        unix_seconds: days(year, month, day) * SECONDS_PER_DAY + seconds,
        date: format!("{year:04}-{month:02}-{day:02}"),
    })
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; years begin in March, so that the day
/// of a leap year is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 37];
const ANY_PURPOSE: &[u8] = &[0x55, 0x1D, 37, 0];
const SERVER: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 3, 1];
const SECONDS_PER_DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn both_ends_of_a_certificate_are_read() {
        for (year, month, day, unix_seconds) in [
            (1970, 1, 1, 0),
            (1999, 12, 31, 946_598_400),
            (2024, 2, 29, 1_709_164_800),
            (2026, 11, 21, 1_795_219_200),
            (2049, 12, 31, 2_524_521_600),
            // From 2050 on the other form is used.
            (2050, 3, 1, 2_529_705_600),
        ] {
            let der = certificate(|params| {
                params.not_before = date_time_ymd(1970, 1, 1);
                params.not_after = date_time_ymd(year, month, day);
            });
            let validity = Validity::of(&der).expect("readable");
            assert_eq!(validity.begins.unix_seconds, 0);
            assert_eq!(validity.ends.unix_seconds, unix_seconds, "{year}");
            let date = format!("{year:04}-{month:02}-{day:02}");
            assert_eq!(validity.ends.date, date);
        }
    }

    #[test]
    fn a_certificate_is_for_servers_unless_it_says_otherwise() {
        use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        for (uses, expected) in [
            (vec![], true),
            (vec![ServerAuth], true),
            (vec![ClientAuth, ServerAuth], true),
            (vec![Any], true),
            (vec![ClientAuth], false),
        ] {
            let der = certificate(|params| params.extended_key_usages = uses.clone());
            let validity = Validity::of(&der).expect("readable");
            assert_eq!(validity.is_for_servers, expected, "{uses:?}");
        }
    }

    #[test]
    fn broken_bytes_say_nothing() {
        let der = certificate(|_| {});
        for length in 0..der.len() {
            assert_eq!(Validity::of(der.get(..length).unwrap_or_default()), None);
            assert_eq!(next_update(der.get(..length).unwrap_or_default()), None);
        }
    }
}
