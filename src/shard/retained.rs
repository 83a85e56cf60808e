//! Retained messages on their way to a new subscription, a few at a time.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::{QoS, Subscription};
use tidewire_protocol::topic::{Subscribable, TopicFilter};

use super::mount::Mounted;
use super::subscribe::mounted_of;
use super::timers::Timer;
use super::{Key, Shard};
use crate::queue::Delivery;
use crate::retained::Walk;

/// A subscription whose retained messages are not all sent yet.
#[derive(Debug)]
pub(crate) struct RetainedDelivery {
    /// As the client wrote it.
    subscription: Box<str>,
    /// In the broker's tree.
    filter: Box<str>,
    qos: QoS,
    subscription_ids: Option<Arc<[NonZeroU32]>>,
    /// `None`: to be begun, or begun anew because the connection ended in between.
    walk: Option<Walk>,
}

impl RetainedDelivery {
    /// Nobody takes the messages for now.
    pub(super) fn pause(&mut self) {
        self.walk = None;
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
            walk: None,
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
        let retained = &self.shared.retained;
        let walk = delivery.walk.get_or_insert_with(|| retained.walk(filter));
        let mut messages = Vec::new();
        let goes_on = retained.advance(walk, now_ms, VISITS_MAX, &mut messages);
        let found = !messages.is_empty();
        let deliveries = messages.into_iter().map(|message| Delivery {
            qos: delivery.qos.min(message.qos()),
            message,
            retain: true,
            subscription_ids: delivery.subscription_ids.clone(),
            group: None,
        });
        session.queue.append(deliveries);
        if !goes_on {
            session.retained.remove(0);
        } else if !found {
            // Others first; there may be a long way to the next match.
            self.timers.add(now_ms, Timer::Retained(key));
            return false;
        }
        true
    }
}

/// Places looked at before others get their turn; as many messages wait at the most.
const VISITS_MAX: usize = 256;
