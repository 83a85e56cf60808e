//! The window of a channel: what was published and is not settled yet.
//!
//! lapin hands a returned message to whichever confirm it completes next, which is the right one
//! only if one message is in flight. Here each returned message finds its record by its content.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use lapin::Confirmation;
use lapin::types::ShortString;

use crate::{Failure, Settled};

/// The confirm of a record, to come.
pub(super) type Confirming = Pin<Box<dyn Future<Output = lapin::Result<Confirm>> + Send>>;

/// By what a message that comes back is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub(super) key: ShortString,
    pub(super) payload: Bytes,
    pub(super) message_id: Option<ShortString>,
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
    /// The number of the first of the window.
    first: u64,
    news: Arc<News>,
    /// Records of the window that are unclear.
    unclear: usize,
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

/// Which confirms have something new, so that nobody has to look at the whole window.
#[derive(Debug, Default)]
struct News(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    numbers: Vec<u64>,
    waker: Option<Waker>,
}

/// The waker of one confirm.
struct Ear {
    number: u64,
    news: Arc<News>,
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
        self.unclear > 0
    }

    /// Begins with a record: the first poll of `confirming` publishes it.
    pub(super) fn push(&mut self, sequence: u64, content: Content, mut confirming: Confirming) {
        let number = self.first + self.window.len() as u64;
        let ear = self.ear(number);
        if let Poll::Ready(outcome) = confirming.as_mut().poll(&mut Context::from_waker(&ear)) {
            confirming = Box::pin(std::future::ready(outcome));
            self.news.tell(number);
        }
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
        // A message that came back is held by its own confirm or by one that completed earlier,
        // which told of itself earlier. So nothing is settled before all news are known.
        loop {
            let numbers = self.news.take(context);
            if numbers.is_empty() {
                break;
            }
            for number in numbers {
                self.look(number)?;
            }
        }
        let settled = self.take_settled();
        if settled.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(settled))
    }

    fn take_settled(&mut self) -> Vec<Settled> {
        let mut settled = Vec::new();
        while let Some(oldest) = self.window.front() {
            let may_be_returned = oldest.is_unclear && oldest.returned.is_none();
            if oldest.confirmed.is_none() || (may_be_returned && !self.is_complete()) {
                break;
            }
            let Some(oldest) = self.window.pop_front() else {
                break;
            };
            self.first += 1;
            self.unclear -= usize::from(oldest.is_unclear);
            let confirmed = oldest.confirmed.unwrap_or(Ok(()));
            settled.push(Settled {
                sequence: oldest.sequence,
                result: oldest
                    .returned
                    .map_or(confirmed, |it| Err(Failure::poison(it))),
            });
        }
        settled
    }

    fn is_complete(&self) -> bool {
        self.window.iter().all(|it| it.confirmed.is_some())
    }

    fn ear(&self, number: u64) -> Waker {
        let news = Arc::clone(&self.news);
        Waker::from(Arc::new(Ear { number, news }))
    }

    /// Takes a confirm, if it has come.
    fn look(&mut self, number: u64) -> Result<(), Failure> {
        let ear = self.ear(number);
        let index = number.checked_sub(self.first);
        let Some(index) = index.and_then(|it| usize::try_from(it).ok()) else {
            return Ok(());
        };
        let in_flight = self.window.get_mut(index);
        let Some(record) = in_flight.filter(|it| it.confirmed.is_none()) else {
            return Ok(());
        };
        let polled = record
            .confirming
            .as_mut()
            .poll(&mut Context::from_waker(&ear));
        let Poll::Ready(confirm) = polled else {
            return Ok(());
        };
        let Confirm { result, returned } = confirm.map_err(super::failure_of)?;
        record.confirmed = Some(result);
        if let Some(returned) = returned {
            let of = self.take_back(*returned)?;
            // Messages come back in the order of publishing: behind that of an earlier record there
            // may be another one of this record.
            if of < index
                && let Some(record) = self.window.get_mut(index)
            {
                record.is_unclear = true;
                self.unclear += 1;
            }
        }
        Ok(())
    }

    /// Finds the record of a returned message. Of records with equal content it does not matter
    /// which one is taken.
    fn take_back(&mut self, returned: Returned) -> Result<usize, Failure> {
        let Returned { content, words } = returned;
        let mut waiting = self.window.iter().map(|it| (&it.content, &it.returned));
        let index = waiting.position(|(it, before)| before.is_none() && *it == content);
        let record = index.and_then(|index| Some((index, self.window.get_mut(index)?)));
        let Some((index, record)) = record else {
            return Err(Failure::retry(format!("not known to us: {words}")));
        };
        record.returned = Some(words);
        Ok(index)
    }
}

impl News {
    fn tell(&self, number: u64) {
        let mut heard = self.lock();
        heard.numbers.push(number);
        let waker = heard.waker.take();
        drop(heard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What was told since the last call; if nothing was, the next one wakes.
    fn take(&self, context: &Context<'_>) -> Vec<u64> {
        let mut heard = self.lock();
        if heard.numbers.is_empty() {
            heard.waker = Some(context.waker().clone());
        }
        std::mem::take(&mut heard.numbers)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        // Nothing that holds the lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.news.tell(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.news.tell(self.number);
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
                message_id: delivery.properties.message_id().clone(),
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
            message_id: None,
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
