//! `sidepool run`: the composition root.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use super::{probe, report};
use crate::admin;
use crate::config::{ConfigError, Loaded, Log, LogFormat, Settings, Sources, load};
use crate::http;
use crate::pool::PoolMode;
use crate::server::{self, Handed, Notify, Predecessor, Reloader, Running, Signal, Signals, Source, StartError};
use crate::upstream::Shortcut;

/// Whether another process is to be relieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Anew,
    /// `--take-over`: with the listening sockets of the one at `listen.control_socket`.
    TakingOver,
}

/// Serves until a signal ends it, or a process that takes over.
pub fn run(loaded: Loaded, sources: Sources, begin: Begin, colour: bool) -> ExitCode {
    report::print_notes(&loaded.notes, colour);
    let log = init_log(&loaded.settings.log, colour);
    finish(colour, serve(loaded, sources, begin, log))
}

fn serve(loaded: Loaded, sources: Sources, begin: Begin, log: Relog) -> Result<(), StartError> {
    let settings = Arc::clone(&loaded.settings);
    let notify = Notify::new(&sources.env);
    let (predecessor, handed) = match begin {
        Begin::Anew => (None, Handed::by_service_manager(&sources.env)?),
        Begin::TakingOver => {
            let (predecessor, handed) = Predecessor::ask(control_socket(&settings)?)?;
            (Some(predecessor), handed)
        }
    };
    on_runtime(settings.workers, async {
        let signals = signals()?;
        let mut running = server::start_with(&settings, handed, admin::console)?;
        let http = http::start(&mut running, &settings)?;
        running.await_successor(&settings.listen)?;
        let source = loaded.source.clone();
        let reloader = running.reloader(loaded, Source { read: Box::new(move |set| load(&sources.amended(set))), log });
        reload_on_hangup(&reloader, notify.clone())?;
        tokio::spawn(reloader.watch());
        announce(&running, http, &settings, &source);
        if let Some(predecessor) = predecessor {
            match predecessor.let_go().await {
                Ok(cancels) => running.pass_cancels_to(cancels),
                Err(error) => tracing::warn!(%error, "the process that was taken over from does not say that it accepts no more"),
            }
        }
        running.inherit();
        println!("sidepool ready");
        notify.ready();
        running.tell(notify.clone());
        tokio::spawn(notify.keep_alive());
        tokio::spawn(probe::warn_of_dead_ends(Arc::clone(&settings)));
        running.serve(signals).await;
        Ok(())
    })
}

fn control_socket(settings: &Settings) -> Result<&Path, StartError> {
    settings.listen.control_socket.as_deref().ok_or_else(|| {
        StartError::new(
            "--take-over needs listen.control_socket, and it is not set",
            "Set it to the path that the running process has, or start without --take-over.",
        )
    })
}

/// Turns a failed start into words and an exit code.
pub fn finish(colour: bool, result: Result<(), StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::print_error(&ConfigError::new(error.message, error.hint), colour);
            report::MISTAKE.into()
        }
    }
}

/// One worker is this thread, which polls its sockets by itself (see [`crate::net::worker`]): clients and servers never cross
/// between threads. The runtime has a thread of its own then, for timers and what is rare.
pub fn on_runtime<T>(workers: usize, future: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    let runtime = build(workers)
        .map_err(|e| StartError::new(format!("cannot start the runtime: {e}"), "Look at the limits of this user: ulimit -a."))?;
    let result = match workers {
        0 | 1 => alone(&runtime, future),
        _ => runtime.block_on(future),
    };
    runtime.shutdown_background();
    result
}

fn build(workers: usize) -> std::io::Result<Runtime> {
    match workers {
        0 | 1 if cfg!(not(target_os = "linux")) => Builder::new_current_thread().enable_all().build(),
        many => Builder::new_multi_thread().worker_threads(many.max(1)).enable_all().build(),
    }
}

#[cfg(target_os = "linux")]
fn alone<T>(runtime: &Runtime, future: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    crate::net::worker::run(runtime.handle(), future).unwrap_or_else(|e| {
        let hint = "This is a fault of the system, not of the configuration.";
        Err(StartError::new(format!("cannot watch sockets: {e}"), hint))
    })
}

#[cfg(not(target_os = "linux"))]
fn alone<T>(runtime: &Runtime, future: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    runtime.block_on(future)
}

/// SIGTERM and SIGINT, as they come.
pub fn signals() -> Result<Signals, StartError> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = terminate.recv() => Signal::Drain,
                _ = interrupt.recv() => Signal::Stop,
            };
            if sender.send(signal).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// SIGHUP. `sidepool dev` goes with its terminal instead.
fn reload_on_hangup(reloader: &Arc<Reloader>, notify: Notify) -> Result<(), StartError> {
    let mut hangup = listen(SignalKind::hangup())?;
    let reloader = Arc::clone(reloader);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notify.reloading();
            // It has been logged.
            let _ = reloader.reload().await;
            notify.ready();
        }
    });
    Ok(())
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, StartError> {
    signal(kind).map_err(|e| {
        StartError::new(format!("cannot listen for signals: {e}"), "This is a fault of the system, not of the configuration.")
    })
}

/// A few lines: where it listens, what it fronts.
pub fn announce(running: &Running, http: Option<SocketAddr>, settings: &Settings, source: &str) {
    println!("sidepool {} ({source})", env!("CARGO_PKG_VERSION"));
    for (mode, address) in running.addresses() {
        println!("  listening  {:<11}  {address}", mode.as_str());
    }
    if let Some(address) = http {
        println!("  listening  {:<11}  {address}", "http");
    }
    for project in &settings.projects {
        let upstream = &project.upstream;
        let place = probe::place(upstream);
        let socket = Shortcut::of(upstream).candidate().map(|path| format!(" (or {}, if it is the same server)", path.display()));
        let socket = socket.unwrap_or_default();
        println!("  project    {:<11}  {place}{socket}, database {}, user {}", project.name, upstream.database, upstream.user);
    }
    let ways = [PoolMode::Session, PoolMode::Transaction].map(|m| running.port(m).is_some());
    if ways == [false, false] {
        println!("  no TCP port: Unix sockets only");
    }
}

/// Changes the filter of the log.
type Relog = Box<dyn Fn(&Log) + Send + Sync>;

/// Begins to log; what changes the filter later.
pub fn init_log(log: &Log, colour: bool) -> Relog {
    let filter = |log: &Log| EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter(log)).with_writer(std::io::stderr).with_target(false);
    // It fails only where somebody logs already (tests), or is gone.
    match log.format {
        LogFormat::Text => {
            let builder = builder.with_ansi(colour).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |log| _ = handle.reload(filter(log)))
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |log| _ = handle.reload(filter(log)))
        }
    }
}
