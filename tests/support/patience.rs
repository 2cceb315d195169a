//! Waiting for what has to come, and for no longer than a busy machine needs.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Longer than anything that is expected to happen takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What the future gives, or a failed test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let asking = async {
        while !is_so().await {
            sleep(ASK_EVERY).await;
        }
    };
    soon(what, asking).await;
}
