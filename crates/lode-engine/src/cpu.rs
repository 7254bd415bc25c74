//! Threads of their own for planning and running statements: the planner and its streams work for milliseconds at a
//! time, which the runtime of sockets and timers must not wait for.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use lode_core::Problem;

/// Deep expressions are planned by recursion; debug builds need many times the frame of release builds.
const STACK_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct CpuPool {
    runtime: Option<Runtime>,
}

impl CpuPool {
    pub(crate) fn new(threads: usize) -> Result<Self, Problem> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name_fn(|| format!("sql-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| Problem::internal("could not start the threads of the SQL engine").cause(error))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs `work` on the pool. Dropping the handle stops it at its next await.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Running<T> {
        Running(self.runtime.as_ref().map(|runtime| runtime.spawn(work)))
    }

    /// Runs `work` on the pool and waits for it. Cancel-safe: a dropped future stops the work.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        self.spawn(work).join().await?
    }
}

impl Drop for CpuPool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The engine may be dropped inside of another runtime, where waiting is forbidden.
            runtime.shutdown_background();
        }
    }
}

/// Work on the pool, stopped when dropped.
#[derive(Debug)]
pub(crate) struct Running<T>(Option<JoinHandle<T>>);

impl<T> Running<T> {
    pub(crate) async fn join(mut self) -> Result<T, Problem> {
        let Some(handle) = self.0.as_mut() else { return Err(Problem::internal("the SQL engine was shut down")) };
        let answer = handle.await.map_err(|error| Problem::internal("a part of a statement stopped").cause(error));
        self.0 = None;
        answer
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}
