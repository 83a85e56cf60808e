//! The window of a channel: what was published and is not settled yet.
//!
//! lapin hands a returned message to whichever confirm it completes next, which is the right one
//! only if one message is in flight. Here each returned message finds its record by its content.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation};

use crate::{Failure, Settled};

/// The confirm of a record, to come.
pub(super) type Confirming = Pin<Box<dyn Future<Output = lapin::Result<Confirm>> + Send>>;

/// What was published.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub(super) key: ShortString,
    pub(super) payload: Bytes,
    pub(super) properties: BasicProperties,
}

/// What the server says of a record, and perhaps of another one.
#[derive(Debug)]
pub(super) struct Confirm {
    result: Result<(), Failure>,
    returned: Option<Box<Returned>>,
}

/// A message that reached no queue.
#[derive(Debug)]
struct Returned {
    content: Content,
    words: String,
}

/// Records in the order of publishing.
#[derive(Default)]
pub(super) struct Confirms {
    window: VecDeque<InFlight>,
}

struct InFlight {
    sequence: u64,
    content: Content,
    confirming: Confirming,
    confirmed: Option<Result<(), Failure>>,
    /// The words with which it came back, if it did.
    returned: Option<String>,
    /// It may have come back without our knowledge: its confirm had room for one returned message
    /// only, and held that of an earlier record.
    is_unclear: bool,
}

impl Confirms {
    pub(super) fn len(&self) -> usize {
        self.window.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// Whether nothing may be published until all that is in flight is confirmed.
    pub(super) fn is_unclear(&self) -> bool {
        self.window.iter().any(|it| it.is_unclear)
    }

    pub(super) fn push(&mut self, sequence: u64, content: Content, confirming: Confirming) {
        self.window.push_back(InFlight {
            sequence,
            content,
            confirming,
            confirmed: None,
            returned: None,
            is_unclear: false,
        });
    }

    /// Settles the oldest records; the server confirms in any order, we settle in ours.
    ///
    /// # Errors
    /// The channel has ended.
    pub(super) fn poll_settled(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<Settled>, Failure>> {
        let Some(oldest) = self.window.front_mut() else {
            return Poll::Pending;
        };
        if oldest.confirmed.is_none() && !self.look(0, context)? {
            return Poll::Pending;
        }
        // A message that came back is held by its own confirm or by one that completed earlier. So
        // nothing is settled before a whole look has found nothing new.
        while self.look_at_all(context)? {}
        let mut settled = Vec::new();
        let is_complete = self.window.iter().all(|it| it.confirmed.is_some());
        while let Some(oldest) = self.window.front_mut() {
            if oldest.is_unclear && oldest.returned.is_none() && !is_complete {
                break;
            }
            let Some(confirmed) = oldest.confirmed.take() else {
                break;
            };
            let result = match oldest.returned.take() {
                Some(words) => Err(Failure::poison(words)),
                None => confirmed,
            };
            let sequence = oldest.sequence;
            settled.push(Settled { sequence, result });
            self.window.pop_front();
        }
        if settled.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(settled))
    }

    fn look_at_all(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        let mut has_news = false;
        for index in 0..self.window.len() {
            has_news |= self.look(index, context)?;
        }
        Ok(has_news)
    }

    /// Whether a confirm has come just now.
    fn look(&mut self, index: usize, context: &mut Context<'_>) -> Result<bool, Failure> {
        let Some(record) = self
            .window
            .get_mut(index)
            .filter(|it| it.confirmed.is_none())
        else {
            return Ok(false);
        };
        let Poll::Ready(confirm) = record.confirming.as_mut().poll(context) else {
            return Ok(false);
        };
        let Confirm { result, returned } = confirm.map_err(super::failure_of)?;
        record.confirmed = Some(result);
        if let Some(returned) = returned {
            let of = self.take_back(*returned)?;
            // Messages come back in the order of publishing: behind that of an earlier record there
            // may be another one of this record.
            if let Some(record) = self.window.get_mut(index) {
                record.is_unclear = of < index;
            }
        }
        Ok(true)
    }

    /// Finds the record of a returned message. Of records with equal content it does not matter
    /// which one is taken.
    fn take_back(&mut self, returned: Returned) -> Result<usize, Failure> {
        let Returned { content, words } = returned;
        let waiting = || self.window.iter().map(|it| (&it.content, &it.returned));
        let equal = waiting().position(|(it, before)| before.is_none() && *it == content);
        let similar = || {
            waiting().position(|(it, before)| {
                before.is_none() && it.key == content.key && it.payload == content.payload
            })
        };
        let index = equal.or_else(similar);
        let record = index.and_then(|index| Some((index, self.window.get_mut(index)?)));
        let Some((index, record)) = record else {
            return Err(Failure::retry(format!("not known to us: {words}")));
        };
        record.returned = Some(words);
        Ok(index)
    }
}

impl From<Confirmation> for Confirm {
    fn from(confirmation: Confirmation) -> Self {
        let result = match &confirmation {
            Confirmation::Ack(_) => Ok(()),
            Confirmation::Nack(_) => Err(Failure::retry("the server could not keep it")),
            Confirmation::NotRequested => Err(Failure::retry("the channel gives no confirms")),
        };
        let returned = confirmation.take_message().map(|message| {
            let delivery = message.delivery;
            let words = format!(
                "returned by the server: {} {}, exchange {:?}, routing key {:?}",
                message.reply_code,
                message.reply_text,
                delivery.exchange.as_str(),
                delivery.routing_key.as_str(),
            );
            let content = Content {
                key: delivery.routing_key,
                payload: Bytes::from(delivery.data),
                properties: delivery.properties,
            };
            Box::new(Returned { content, words })
        });
        Self { result, returned }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::sync::oneshot;

    use super::*;

    type Server = Vec<oneshot::Sender<Confirm>>;

    fn content(name: &str) -> Content {
        Content {
            key: name.into(),
            payload: Bytes::from(name.to_owned()),
            properties: BasicProperties::default(),
        }
    }

    fn published(names: &[&str]) -> (Confirms, Vec<Option<oneshot::Sender<Confirm>>>) {
        let (mut confirms, mut server) = (Confirms::default(), Server::new());
        for (sequence, name) in (0..).zip(names) {
            let (sender, receiver) = oneshot::channel();
            server.push(sender);
            let confirming = Box::pin(async move { Ok(receiver.await.unwrap()) });
            confirms.push(sequence, content(name), confirming);
        }
        (confirms, server.into_iter().map(Some).collect())
    }

    fn confirm(sender: &mut Option<oneshot::Sender<Confirm>>, returned: Option<&str>) {
        let returned = returned.map(|name| {
            Box::new(Returned {
                content: content(name),
                words: name.to_owned(),
            })
        });
        let result = Ok(());
        let sent = sender.take().unwrap().send(Confirm { result, returned });
        sent.unwrap();
    }

    /// Which records were settled now, and whether the server has them.
    fn settled(confirms: &mut Confirms) -> Vec<(u64, bool)> {
        let mut context = Context::from_waker(Waker::noop());
        match confirms.poll_settled(&mut context) {
            Poll::Pending => Vec::new(),
            Poll::Ready(settled) => {
                let settled = settled.unwrap().into_iter();
                settled.map(|it| (it.sequence, it.result.is_ok())).collect()
            }
        }
    }

    #[test]
    fn a_returned_message_is_told_from_the_one_whose_confirm_holds_it() {
        let (mut confirms, mut server) = published(&["kept", "lost", "kept too"]);
        confirm(&mut server[0], Some("lost"));
        assert_eq!(settled(&mut confirms), [(0, true)]);
        confirm(&mut server[1], None);
        confirm(&mut server[2], None);
        assert_eq!(settled(&mut confirms), [(1, false), (2, true)]);
    }

    #[test]
    fn a_returned_message_is_found_at_a_later_record_too() {
        let (mut confirms, mut server) = published(&["lost", "kept"]);
        confirm(&mut server[1], Some("lost"));
        assert_eq!(settled(&mut confirms), []);
        confirm(&mut server[0], None);
        assert_eq!(settled(&mut confirms), [(0, false), (1, true)]);
    }

    #[test]
    fn a_record_whose_confirm_holds_an_earlier_return_waits_for_all_others() {
        let (mut confirms, mut server) = published(&["lost", "lost too", "kept"]);
        confirm(&mut server[1], Some("lost"));
        confirm(&mut server[0], None);
        assert_eq!(settled(&mut confirms), [(0, false)]);
        assert!(confirms.is_unclear());
        confirm(&mut server[2], Some("lost too"));
        assert_eq!(settled(&mut confirms), [(1, false), (2, true)]);
        assert!(confirms.is_empty());
    }

    #[test]
    fn of_equal_messages_as_many_are_refused_as_came_back() {
        let (mut confirms, mut server) = published(&["same", "same", "same"]);
        confirm(&mut server[2], Some("same"));
        confirm(&mut server[0], Some("same"));
        confirm(&mut server[1], None);
        let outcomes = settled(&mut confirms);
        assert_eq!(outcomes, [(0, false), (1, false), (2, true)]);
    }

    #[test]
    fn a_returned_message_of_nobody_ends_the_connection() {
        let (mut confirms, mut server) = published(&["kept"]);
        confirm(&mut server[0], Some("strange"));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Err(failure)) = confirms.poll_settled(&mut context) else {
            unreachable!("it is refused");
        };
        assert!(failure.reason.contains("strange"), "{failure}");
    }
}
