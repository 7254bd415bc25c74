//! Tasks have a name and an owner; heavy work goes to the CPU pool.

use std::future::Future;
use std::sync::LazyLock;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::Problem;

/// Number of CPU workers: the machine's parallelism.
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Spawns a named task. The caller joins the handle or aborts it.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    tokio::spawn(future.instrument(tracing::debug_span!("task", name)))
}

static CPU: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(cpu_count()));

/// Runs heavy work (decode, compress, sort) off the runtime threads, at most one per core at a time. For work of
/// milliseconds; see `cpu_long`.
/// Errors: `Internal` if the work panicked.
pub async fn cpu<T, F>(name: &'static str, work: F) -> Result<T, Problem>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let _permit = CPU.acquire().await.map_err(|_| Problem::internal("the CPU pool is closed"))?;
    blocking(name, work).await
}

static LONG: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(cpu_count()));

/// As `cpu`, for work that lasts as long as its input (the landing of an epoch). It has permits of its own, so what
/// somebody waits for is never queued behind it: the system shares the cores among both.
/// Errors: as `cpu`.
pub async fn cpu_long<T, F>(name: &'static str, work: F) -> Result<T, Problem>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let _permit = LONG.acquire().await.map_err(|_| Problem::internal("the CPU pool is closed"))?;
    blocking(name, work).await
}

/// Runs blocking file work off the runtime threads.
/// Errors: `Internal` if the work panicked.
pub async fn blocking<T, F>(name: &'static str, work: F) -> Result<T, Problem>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::internal(format!("work \"{name}\" stopped")).cause(error))
}
