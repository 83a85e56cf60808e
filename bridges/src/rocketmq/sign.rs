//! What every request says of its sender.
//!
//! # Source
//! `Signature` in apache/rocketmq-clients: HMAC-SHA1 over the date, `x-mq-*` headers.

use http::HeaderValue;
use ring::hmac;

use super::settings::Calendar;
use crate::Credentials;
use crate::Failure;

/// Signs requests by a pair of keys, if there is one.
pub(super) struct Signer {
    keys: Option<(String, hmac::Key)>,
    calendar: Calendar,
}

impl Signer {
    /// # Errors
    /// The access key cannot be said in a header.
    pub(super) fn new(credentials: Credentials, calendar: Calendar) -> Result<Self, Failure> {
        let Credentials {
            user_name,
            password,
        } = credentials;
        let keys = user_name.map(|access_key| {
            let secret = password.unwrap_or_default();
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
            (access_key, key)
        });
        let access_key = keys.as_ref().map_or("", |it| it.0.as_str());
        HeaderValue::from_str(access_key)
            .map_err(|_| Failure::refused("the user name has characters that no header takes"))?;
        Ok(Self { keys, calendar })
    }

    /// Names and values of headers.
    pub(super) fn headers(&self, client_id: &str) -> Vec<(&'static str, String)> {
        let date = date_of((self.calendar.0)());
        let mut headers = vec![
            ("x-mq-client-id", client_id.to_owned()),
            ("x-mq-language", "RUST".to_owned()),
            ("x-mq-client-version", VERSION.to_owned()),
            ("x-mq-protocol", "v2".to_owned()),
        ];
        if let Some((access_key, key)) = &self.keys {
            let signature = hmac::sign(key, date.as_bytes());
            let signature: String = signature
                .as_ref()
                .iter()
                .map(|it| format!("{it:02X}"))
                .collect();
            let authorization = format!(
                "MQv2-HMAC-SHA1 Credential={access_key}, SignedHeaders=x-mq-date-time, \
                 Signature={signature}"
            );
            headers.push(("authorization", authorization));
        }
        headers.push(("x-mq-date-time", date));
        headers
    }
}

/// `yyyyMMdd'T'HHmmss'Z'` of milliseconds since 1970.
///
/// # Source
/// Howard Hinnant, `chrono`-Compatible Low-Level Date Algorithms, `civil_from_days`.
fn date_of(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here.
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{:02}Z",
        second % 60
    )
}

/// The version of the clients that this one does as; servers ask for 5.0.3 or newer.
pub(super) const VERSION: &str = "5.0.7";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_of(0), "19700101T000000Z");
        assert_eq!(date_of(951_782_400_000), "20000229T000000Z");
        assert_eq!(date_of(951_868_800_000), "20000301T000000Z");
        assert_eq!(date_of(1_609_459_199_999), "20201231T235959Z");
        assert_eq!(date_of(1_700_000_000_000), "20231114T221320Z");
        assert_eq!(date_of(1_704_067_200_000), "20240101T000000Z");
    }

    #[test]
    fn the_date_is_signed_and_the_secret_is_not_said() {
        let credentials = Credentials {
            user_name: Some("key".to_owned()),
            password: Some(b"secret".to_vec()),
        };
        let calendar = Calendar(Arc::new(|| 1_700_000_000_000));
        let headers = Signer::new(credentials, calendar).unwrap().headers("c");
        let authorization = &headers.iter().find(|it| it.0 == "authorization").unwrap().1;
        // printf 20231114T221320Z | openssl dgst -sha1 -hmac secret
        let expected = "MQv2-HMAC-SHA1 Credential=key, SignedHeaders=x-mq-date-time, Signature=";
        let signature = authorization.strip_prefix(expected).unwrap();
        assert_eq!(signature, "09787560892EB89233B4895D10313CDF924FB560");
        assert!(!headers.iter().any(|it| it.1.contains("secret")));
    }
}
