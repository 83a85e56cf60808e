//! The tasks that publish: in a closed loop, or on a schedule.

use std::rc::Rc;

use super::Shared;
use super::schedule::{Schedule, Timer};
use super::sender::Sender;
use crate::cli::client::ClientError;

/// Sends as fast as the window allows. Half a window at a time, so that both ends work in batches.
pub(super) async fn run_loop(
    shared: Rc<Shared>,
    mut sender: Sender,
    index: u32,
    fan_out: u64,
) -> Result<(), ClientError> {
    let own = &shared.loops[index as usize];
    let window = u64::from(shared.arguments.window);
    let batch = (window / 2).clamp(1, sender.room().max(2) / 2);
    loop {
        let arrived = (own.delivered.get() + own.given_up.get()) / fan_out;
        let room = window.saturating_sub(own.sent.get().saturating_sub(arrived));
        let room = room.min(sender.room());
        if room >= batch && !shared.is_over.get() {
            let now_us = shared.clock.now_us();
            for _ in 0..room {
                sender.queue_message(now_us);
            }
        }
        sender.connection.flush().await?;
        let arrived_for_batch = (own.sent.get() + batch).saturating_sub(window);
        own.wake_at.set(arrived_for_batch * fan_out);
        // Cancel safe: a permit that is not taken stays, and so do unread bytes.
        tokio::select! {
            () = own.credit.notified() => {}
            filled = sender.connection.fill() => {
                filled?;
                sender.take_packets(|_, _| {})?;
            }
        }
    }
}

/// Sends each message when it is due, or as soon after as generator and connection can.
pub(super) async fn run_schedule(
    shared: Rc<Shared>,
    mut sender: Sender,
    index: u32,
    schedule: Schedule,
) -> Result<(), ClientError> {
    let timer = Timer::new()?;
    let sent = &shared.loops[index as usize].sent;
    loop {
        let now_us = shared.clock.now_us();
        let end_us = shared.measured_us.borrow().end;
        let mut due_us = schedule.due_us(sent.get());
        while due_us <= now_us && due_us < end_us && sender.room() > 0 {
            if shared.measured_us.borrow().contains(&due_us) {
                shared.lag_us.borrow_mut().add(now_us - due_us);
            }
            sender.queue_message(due_us);
            due_us = schedule.due_us(sent.get());
        }
        sender.connection.flush().await?;
        let pause_us = match due_us < end_us && sender.room() > 0 {
            true => due_us.saturating_sub(shared.clock.now_us()),
            // Over, or nothing to do before an acknowledgement comes.
            false => IDLE_US,
        };
        // Cancel safe: unread bytes stay, and the timer is set anew.
        tokio::select! {
            slept = timer.sleep_us(pause_us) => slept?,
            filled = sender.connection.fill() => {
                filled?;
                sender.take_packets(|_, _| {})?;
            }
        }
    }
}

const IDLE_US: u64 = 100_000;
