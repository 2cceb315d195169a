//! Work that waits for a disk, away from the threads of connections.

/// What the work gives, once it is done.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime is taken down, and with it the task that waits here.
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_runtime_that_is_taken_down_does_not_make_its_tasks_panic() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let gone = runtime.handle().clone();
        runtime.shutdown_background();
        let _there = gone.enter();
        assert!(blocking(|| ()).now_or_never().is_none());
    }
}
