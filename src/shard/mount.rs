//! Mount points: the part of the topic tree that the clients of a listener see as the whole.
//!
//! Topics are prefixed on the way in and shown without the prefix on the way out. `$SYS` is the
//! same for all; other topics that begin with `$` do not exist under a mount point, since a `#`
//! would find them there.

use std::borrow::Cow;

use tidewire_protocol::codec::ReasonCode;
use tidewire_protocol::topic::{Subscribable, TopicFilter};

/// The topic in the broker's tree that a client of `mount_point` means.
///
/// # Errors
/// The reason to refuse a topic that does not exist there, or becomes too long.
pub fn mounted<'t>(mount_point: Option<&str>, topic: &'t str) -> Result<Cow<'t, str>, ReasonCode> {
    let Some(mount_point) = mount_point.filter(|_| !is_sys(topic.as_bytes())) else {
        return Ok(topic.into());
    };
    if topic.starts_with('$') {
        return Err(ReasonCode::NotAuthorized);
    }
    if mount_point.len() + topic.len() > TOPIC_BYTES_MAX {
        return Err(ReasonCode::TopicNameInvalid);
    }
    Ok(format!("{mount_point}{topic}").into())
}

/// A topic of the broker's tree as a client of `mount_point` knows it; `None`: it is elsewhere.
pub(super) fn shown<'t>(mount_point: Option<&str>, topic: &'t [u8]) -> Option<&'t [u8]> {
    let Some(mount_point) = mount_point else {
        return Some(topic);
    };
    if is_sys(topic) {
        return Some(topic);
    }
    let shown = topic.strip_prefix(mount_point.as_bytes())?;
    (!shown.starts_with(b"$") && !shown.is_empty()).then_some(shown)
}

/// A subscription of a client with its filter moved under the mount point.
pub(super) struct Mounted<'f> {
    text: Cow<'f, str>,
    kind: Kind<'f>,
}

#[derive(Clone, Copy)]
enum Kind<'f> {
    Plain,
    Shared(&'f str),
    Exclusive,
}

impl<'f> Mounted<'f> {
    /// Moves the filter inside of what a SUBSCRIBE asks for.
    ///
    /// # Errors
    /// As [`mounted`].
    pub(super) fn new(
        mount_point: Option<&str>,
        asked: Subscribable<'f>,
    ) -> Result<Self, ReasonCode> {
        let (filter, kind) = match asked {
            Subscribable::Plain(filter) => (filter, Kind::Plain),
            Subscribable::Shared { group, filter } => (filter, Kind::Shared(group)),
            Subscribable::Exclusive(filter) => (filter, Kind::Exclusive),
        };
        let text = mounted(mount_point, filter.as_str()).map_err(|reason| match reason {
            ReasonCode::TopicNameInvalid => ReasonCode::TopicFilterInvalid,
            other => other,
        })?;
        Ok(Self { text, kind })
    }

    /// What to bind. The levels were counted before: a mount point takes none of a client's.
    pub(super) fn subscribable(&self) -> Result<Subscribable<'_>, ReasonCode> {
        let filter = TopicFilter::parse(&self.text, usize::MAX)
            .map_err(|_| ReasonCode::TopicFilterInvalid)?;
        Ok(match self.kind {
            Kind::Plain => Subscribable::Plain(filter),
            Kind::Shared(group) => Subscribable::Shared { group, filter },
            Kind::Exclusive => Subscribable::Exclusive(filter),
        })
    }
}

/// What a session is called: client ids are their mount point's own. They hold no U+0000.
pub(super) fn session_name<'c>(mount_point: Option<&str>, client_id: &'c str) -> Cow<'c, str> {
    match mount_point {
        None => client_id.into(),
        Some(mount_point) => format!("{mount_point}{NAME_SEPARATOR}{client_id}").into(),
    }
}

/// The client id in the name of a session.
pub fn client_id_of(name: &str) -> &str {
    name.split_once(NAME_SEPARATOR).map_or(name, |(_, it)| it)
}

/// Neither mount points nor client ids hold it.
pub(super) const NAME_SEPARATOR: char = '\0';

fn is_sys(topic: &[u8]) -> bool {
    topic.starts_with(b"$SYS/") || topic == b"$SYS"
}

/// What a length of two bytes can say.
const TOPIC_BYTES_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_shown_as_it_was_given() {
        for (topic, inside) in [("a/b", "t/a/b"), ("/", "t//"), ("$SYS/x", "$SYS/x")] {
            let there = mounted(Some("t/"), topic).unwrap();
            assert_eq!(there, inside);
            assert_eq!(shown(Some("t/"), there.as_bytes()), Some(topic.as_bytes()));
        }
        assert_eq!(mounted(None, "$x").unwrap(), "$x");
    }

    #[test]
    fn what_is_elsewhere_is_not_shown() {
        for topic in ["a", "t", "t/", "u/a", "t/$x/a"] {
            assert_eq!(shown(Some("t/"), topic.as_bytes()), None, "{topic}");
        }
        assert_eq!(mounted(Some("t/"), "$x"), Err(ReasonCode::NotAuthorized));
        let long = "a".repeat(65_534);
        let refused = mounted(Some("t/"), &long);
        assert_eq!(refused, Err(ReasonCode::TopicNameInvalid));
    }
}
