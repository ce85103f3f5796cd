//! Tokens not seen before are checked on the control plane's threads, in the order in which they come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::services::NodeServices;
use crate::auth::{Denied, Reason};
use crate::broker::core::{AuthRequest, ConnKey};
use crate::broker::{Mail, Mailbox};
use crate::mqtt::codec::ReasonCode;

/// Tasks that check tokens at one time: each check costs some 30 microseconds of a core, and Raft runs on the same threads (R18).
const TASKS: usize = 2;
/// Checks that a task makes before others get their turn. Their answers are posted together, which wakes a worker once.
const TOGETHER: usize = 16;
/// How long a task that has worked off the line lets others gather there. Whoever comes to no task at all waits for none.
const GATHER: Duration = Duration::from_millis(1);
/// Token checks that may be waited for: under a second's worth. More CONNECTs get 0x89, as each keeps up to 128 KiB, also
/// when its client is long gone.
const MAX_CHECKS: usize = 4096;

/// What is to be checked.
pub(super) struct Checks {
    line: Mutex<Line>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Check>,
    tasks: usize,
}

struct Check {
    answer: Arc<Mailbox>,
    conn: ConnKey,
    request: AuthRequest,
    /// The view was brought up to date for it.
    caught_up: bool,
    _place: OwnedSemaphorePermit,
}

impl Default for Checks {
    fn default() -> Self {
        Self { line: Mutex::default(), places: Arc::new(Semaphore::new(MAX_CHECKS)) }
    }
}

impl Checks {
    /// Puts `check` last. Whether one more task is to work off the line: it ends when [`Checks::next`] gives it nothing.
    fn push(&self, check: Check) -> bool {
        let mut line = self.line.lock();
        line.waiting.push_back(check);
        // A second thread is woken only if there is enough for it.
        let more = line.tasks < TASKS && line.waiting.len() > line.tasks * TOGETHER;
        line.tasks += usize::from(more);
        more
    }

    fn is_empty(&self) -> bool {
        self.line.lock().waiting.is_empty()
    }

    /// The next ones. None: the task that asks is not counted any more.
    fn next(&self) -> Vec<Check> {
        let mut line = self.line.lock();
        let count = line.waiting.len().min(TOGETHER);
        if count == 0 {
            line.tasks -= 1;
        }
        line.waiting.drain(..count).collect()
    }
}

impl NodeServices {
    /// Checks a token, and then posts the result.
    pub(super) fn check_later(self: Arc<Self>, answer: Arc<Mailbox>, conn: ConnKey, request: AuthRequest) {
        match self.checks.places.clone().try_acquire_owned() {
            Ok(_place) => self.line_up(Check { answer, conn, request, caught_up: false, _place }),
            Err(_) => answer.post(Mail::Authenticated { conn, result: Err(ReasonCode::SERVER_BUSY) }),
        }
    }

    fn line_up(self: Arc<Self>, check: Check) {
        if self.checks.push(check) {
            let control = self.control.clone();
            control.spawn(self.work_off());
        }
    }

    async fn work_off(self: Arc<Self>) {
        loop {
            let checks = self.checks.next();
            if checks.is_empty() {
                return;
            }
            let mut answers: Vec<(Arc<Mailbox>, Vec<Mail>)> = Vec::new();
            for check in checks {
                let Some((mailbox, mail)) = self.clone().conclude(check) else { continue };
                match answers.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &mailbox)) {
                    Some((_, all)) => all.push(mail),
                    None => answers.push((mailbox, vec![mail])),
                }
            }
            answers.into_iter().for_each(|(mailbox, mail)| mailbox.post_all(mail));
            match self.checks.is_empty() {
                true => tokio::time::sleep(GATHER).await,
                false => tokio::task::yield_now().await,
            }
        }
    }

    /// The answer to one; none yet if what was acknowledged elsewhere may let the client in: it comes again with that.
    fn conclude(self: Arc<Self>, check: Check) -> Option<(Arc<Mailbox>, Mail)> {
        let verify = |state: &_, expected, token: &str, now| self.verifier.verify(state, expected, token, now);
        let result = self.check(&check.request, verify);
        if !check.caught_up && result.as_ref().is_err_and(Denied::depends_on_view) {
            let control = self.control.clone();
            // One short task for each connection that waits for it.
            control.spawn(async move {
                self.catch_up.run().await;
                self.line_up(Check { caught_up: true, ..check });
            });
            return None;
        }
        let Check { answer, conn, request, .. } = check;
        let result = result.map_err(|denied| self.refuse(&request, &denied));
        Some((answer, Mail::Authenticated { conn, result }))
    }

    fn refuse(&self, request: &AuthRequest, denied: &Denied) -> ReasonCode {
        if let Some(left_out) = self.log.line(self.clock.now()) {
            let (from, client_id) = (request.from, &request.client_id);
            tracing::info!(%from, client_id, %denied, left_out, "connect refused");
        }
        code(denied)
    }
}

fn code(denied: &Denied) -> ReasonCode {
    match denied.reason() {
        Reason::BadUserNameOrPassword => ReasonCode::BAD_CREDENTIALS,
        Reason::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        Reason::ClientIdInvalid => ReasonCode::CLIENT_ID_INVALID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_come_in_turn_and_a_few_at_a_time() {
        let checks = Checks::default();
        let answer = Arc::new(Mailbox::default());
        let push = |n| {
            let from = "127.0.0.1:1".parse().unwrap();
            let request =
                AuthRequest { server_name: None, client_id: String::new(), user_name: None, password: None, from };
            let _place = checks.places.clone().try_acquire_owned().unwrap();
            let conn = ConnKey { index: n, generation: 0 };
            checks.push(Check { answer: answer.clone(), conn, request, caught_up: false, _place })
        };
        let tasks: Vec<u32> = (0..80).filter(|n| push(*n)).collect();
        assert_eq!(tasks, [0, 16], "a second task only for what the first has not in its hands");
        let taken: Vec<Vec<u32>> = std::iter::repeat_with(|| checks.next())
            .map(|taken| taken.iter().map(|check| check.conn.index).collect::<Vec<_>>())
            .take_while(|taken| !taken.is_empty())
            .collect();
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [TOGETHER; 5]);
        assert!(taken.concat().into_iter().eq(0..80));
        assert_eq!(checks.places.available_permits(), MAX_CHECKS);
        assert!(!push(0), "one of the two tasks looks once more");
        assert_eq!((checks.next().len(), checks.next().len()), (1, 0));
        assert!(push(0));
    }
}
