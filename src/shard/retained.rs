//! Retained messages on their way to a new subscription, a few at a time.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::{QoS, Subscription};
use tidewire_protocol::topic::{Subscribable, TopicFilter};

use super::durable::{Asker, Durable};
use super::mount::Mounted;
use super::subscribe::mounted_of;
use super::timers::Timer;
use super::{Key, Shard};
use crate::auth::acl::Action;
use crate::message::Message;
use crate::queue::Delivery;
use crate::retained::Walk;
use crate::store::{Load, QueueId, RequestId, RetainedPlace, Ticket};

/// A subscription whose retained messages are not all sent yet.
#[derive(Debug)]
pub(crate) struct RetainedDelivery {
    /// As the client wrote it.
    subscription: Box<str>,
    /// In the broker's tree.
    filter: Box<str>,
    qos: QoS,
    subscription_ids: Option<Arc<[NonZeroU32]>>,
    source: Source,
    /// Topics whose retained message was replaced, and sent, since the store was asked.
    overtaken: Vec<Box<[u8]>>,
}

/// Where to go on.
#[derive(Debug)]
enum Source {
    /// `None`: to be begun, or begun anew because the connection ended in between.
    Memory(Option<Walk>),
    /// One piece after the other, each asked for when the one before is sent.
    Store {
        /// SUBACK leaves with this batch, and retained messages follow.
        fence: Ticket,
        after: Option<RetainedPlace>,
        asked: Option<RequestId>,
    },
}

impl RetainedDelivery {
    /// Nobody takes the messages for now.
    pub(super) fn pause(&mut self) {
        match &mut self.source {
            Source::Memory(walk) => *walk = None,
            Source::Store { asked, .. } => *asked = None,
        }
    }

    /// A new retained message is on its way: an older one may not follow it.
    pub(super) fn overtake(&mut self, topic: &[u8]) {
        if matches!(self.source, Source::Store { asked: Some(_), .. })
            && self.overtaken.len() < OVERTAKEN_MAX
        {
            self.overtaken.push(topic.into());
        }
    }

    pub(super) fn is_for(&self, filter: &str) -> bool {
        *self.subscription == *filter
    }
}

impl Shard {
    /// Retained messages for a subscription just made; shared ones get none.
    pub(super) fn send_retained(
        &mut self,
        key: Key,
        subscription: &Subscription<'_>,
        subscription_id: Option<NonZeroU32>,
        now_ms: u64,
    ) {
        let levels_max = self.shared.config.limits.topic_levels_max;
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let mount_point = session.mount_point.clone();
        let mounted = mounted_of(mount_point.as_deref(), subscription.filter, levels_max);
        let (Ok(Subscribable::Plain(filter)) | Ok(Subscribable::Exclusive(filter))) = mounted
            .as_ref()
            .map_err(|it| *it)
            .and_then(Mounted::subscribable)
        else {
            return;
        };
        let delivery = RetainedDelivery {
            subscription: subscription.filter.into(),
            filter: filter.as_str().into(),
            qos: subscription.options.qos,
            subscription_ids: subscription_id.map(|id| Arc::from([id])),
            source: match self.durable.is_on() && !filter.as_str().starts_with("$SYS/") {
                true => Source::Store {
                    fence: match self.durable.has_recorded() {
                        true => self.durable.fence(),
                        false => Ticket::default(),
                    },
                    after: None,
                    asked: None,
                },
                false => Source::Memory(None),
            },
            overtaken: Vec::new(),
        };
        session
            .retained
            .retain(|it| !it.is_for(&delivery.subscription));
        session.retained.push(delivery);
        self.send_waiting(key, now_ms);
    }

    /// Looks for more retained messages for a session that has room; false if there is nothing
    /// more to look for now.
    pub(super) fn queue_retained(&mut self, key: Key, now_ms: u64) -> bool {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return false;
        };
        let Some(delivery) = session.retained.first_mut() else {
            return false;
        };
        let Ok(filter) = TopicFilter::parse(&delivery.filter, usize::MAX) else {
            debug_assert!(false, "a subscription of a bad filter");
            return false;
        };
        let walk = match &mut delivery.source {
            Source::Memory(walk) => walk,
            Source::Store { asked: Some(_), .. } => return false,
            Source::Store {
                fence,
                after,
                asked,
            } => {
                let load = Load::Retained {
                    filter: delivery.filter.clone(),
                    after: after.clone(),
                    count_max: VISITS_MAX,
                };
                *asked = self.durable.ask(Asker::Retained(key), *fence, load);
                return false;
            }
        };
        let retained = &self.shared.retained;
        let walk = walk.get_or_insert_with(|| retained.walk(filter));
        let mut messages = Vec::new();
        let goes_on = retained.advance(walk, now_ms, VISITS_MAX, &mut messages);
        if !session.rights.is_everything() {
            let rights = &session.rights;
            messages.retain(|it: &Message| rights.allows(Action::Receive, it.topic()));
        }
        let found = !messages.is_empty();
        let kept = session.store.map(|queue| (queue, &mut self.durable));
        let deliveries = delivery.deliveries(messages, kept);
        session.queue.append(deliveries.into_iter());
        if !goes_on {
            session.retained.remove(0);
        } else if !found {
            // Others first; there may be a long way to the next match.
            self.timers.add(now_ms, Timer::Retained(key));
            return false;
        }
        true
    }

    /// A piece from the store.
    pub(super) fn retained_loaded(
        &mut self,
        key: Key,
        request: RequestId,
        mut messages: Vec<Message>,
        next: Option<RetainedPlace>,
        now_ms: u64,
    ) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let Some(delivery) = session.retained.first_mut() else {
            return;
        };
        let Source::Store { after, asked, .. } = &mut delivery.source else {
            return;
        };
        if *asked != Some(request) {
            return;
        }
        let is_last = next.is_none();
        (*after, *asked) = (next, None);
        let overtaken = std::mem::take(&mut delivery.overtaken);
        messages.retain(|message| {
            let is_old = overtaken.iter().any(|it| **it == *message.topic_bytes());
            let is_allowed = session.rights.allows(Action::Receive, message.topic());
            !is_old && is_allowed && !message.is_expired(now_ms)
        });
        let kept = session.store.map(|queue| (queue, &mut self.durable));
        let deliveries = delivery.deliveries(messages, kept);
        session.queue.append(deliveries.into_iter());
        if is_last {
            session.retained.remove(0);
        }
        self.send_waiting(key, now_ms);
    }
}

impl RetainedDelivery {
    /// A durable session has to acknowledge them like any others: they are kept for it.
    fn deliveries(
        &self,
        messages: Vec<Message>,
        mut kept: Option<(QueueId, &mut Durable)>,
    ) -> Vec<Delivery> {
        let deliver = |message: Message| {
            let qos = self.qos.min(message.qos());
            let mut delivery = Delivery {
                qos,
                message,
                retain: true,
                subscription_ids: self.subscription_ids.clone(),
                group: None,
                stored: None,
            };
            if let Some((queue, durable)) = &mut kept
                && qos != QoS::AtMostOnce
            {
                delivery.stored = Some(durable.keep_delivery(*queue, &delivery));
            }
            delivery
        };
        messages.into_iter().map(deliver).collect()
    }
}

/// Topics remembered while the store is asked; it answers within a turn or two.
const OVERTAKEN_MAX: usize = 1_024;
/// Places looked at before others get their turn; as many messages wait at the most.
const VISITS_MAX: usize = 256;
