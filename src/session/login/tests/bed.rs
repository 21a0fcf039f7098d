//! What the login's tests stand on: a configuration, and a client that is written byte by byte.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::auth::key_cache::KeyCache;
use crate::auth::keys::ScramKeys;
use crate::auth::process_secret::ProcessSecret;
use crate::auth::scram::client::{AwaitingSignature, Binding, ScramClient};
use crate::config::*;
use crate::net::socket::{Peer, Socket};
use crate::net::tls::ServerTls;
use crate::session::login::{Arrival, Failure, Login, LoginContext, greet};
use crate::wire::authentication::Authentication;
use crate::wire::fields::Fields;
use crate::wire::request;
use crate::wire::startup::{FirstPacket, Startup};

/// The password of the upstream's user `postgres`.
pub(crate) const PASSWORD: &str = "s3cret";

pub(crate) fn project(name: &str, user: &str) -> Project {
    let tls = UpstreamTls::new(SslMode::Disable);
    let upstream = Upstream {
        host: Host::Tcp("localhost".into()),
        port: 5432,
        user: user.into(),
        password: Some(Password::new(PASSWORD)),
        database: "postgres".into(),
        tls,
        socket: UpstreamSocket::Off,
    };
    Project {
        disabled: None,
        name: name.into(),
        server_name: None,
        upstream,
        users: vec![],
        logins: Logins { auth_query: AuthQuery::Off, ..Logins::default() },
        pool_size: 1,
        min_pool_size: 0,
        max_server_connections: 1,
    }
}

pub(crate) fn settings(projects: Vec<Project>) -> Settings {
    let minute = Duration::from_secs(60);
    Settings {
        listen: Listen {
            addresses: vec![],
            session_port: None,
            transaction_port: None,
            unix_socket_dir: None,
            reuse_port: false,
            control_socket: None,
            http: None,
            http_token: None,
        },
        client_auth: ClientAuth::ScramSha256,
        isolation: crate::wire::exchange::Isolation::Tracked,
        verify: false,
        home_servers: false,
        lint: Lint::Off,
        error_texts: ErrorTexts::Postgres,
        session_overflow: SessionOverflow::Wait,
        startup_parameters: StartupParameters::Applied,
        named_statements: crate::wire::exchange::NamedStatements::Kept,
        client_tls: ClientTls::Off,
        console: Default::default(),
        shown: vec![],
        limits: Limits {
            max_clients: 1,
            max_server_connections: 1,
            pool_size: 1,
            min_pool_size: 0,
            max_pinned: 0,
            parallel_logins: 1,
            prepared_statements_per_server: 1,
            prepared_statements_per_client: 1,
            prepared_bytes_per_client: 1,
            statement_bytes: 1,
            max_pools: 0,
            startup_bytes: crate::wire::startup::STARTUP_BYTES_MAX,
        },
        timeouts: Timeouts {
            client_login: minute,
            queue_wait: minute,
            queue_notice: minute,
            client_idle: minute,
            idle_in_transaction: minute,
            idle_pinned: minute,
            server_connect: minute,
            server_down: minute,
            server_lifetime: minute,
            server_idle: minute,
            other_database_idle: minute,
            server_check: minute,
            recovery: minute,
            drain: minute,
            drain_delay: minute,
            take_over: minute,
        },
        workers: 1,
        watch: false,
        logins: Logins::default(),
        log: Log { filter: "info".into(), format: LogFormat::Text, connections: false, slow_transactions: Duration::ZERO },
        projects: projects.into_iter().map(Arc::new).collect(),
    }
}

/// From `name\0value\0…`, without the last NUL.
pub(crate) fn startup(pairs: &str) -> Startup {
    match FirstPacket::parse(&startup_packet(0, pairs)).unwrap() {
        FirstPacket::Startup(startup) => startup,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn startup_packet(minor: u16, pairs: &str) -> Vec<u8> {
    let mut packet = (9 + pairs.len() as u32).to_be_bytes().to_vec();
    packet.extend([0, 3]);
    packet.extend(minor.to_be_bytes());
    packet.extend(pairs.bytes());
    packet.push(0);
    packet
}

pub(crate) struct Bed {
    pub(crate) context: LoginContext,
    pub(crate) certificates: tempfile::TempDir,
}

pub(crate) type Greeting = JoinHandle<Result<Arrival, Failure>>;

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(settings(vec![project("*", "postgres")]))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let context = LoginContext {
            settings: Arc::new(settings),
            tls: None,
            secret: Arc::new(ProcessSecret::generate().unwrap()),
            keys: Arc::new(KeyCache::new().unwrap()),
            inquiries: Arc::default(),
            guard: Arc::default(),
            introductions: Arc::default(),
        };
        Self { context, certificates: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with_users(users: Vec<(&str, Secret)>) -> Self {
        let mut project = project("*", "postgres");
        project.users = users.into_iter().map(|(name, secret)| User { name: name.into(), secret }).collect();
        Self::with(settings(vec![project]))
    }

    pub(crate) fn trusting() -> Self {
        let settings = settings(vec![project("*", "postgres")]);
        Self::with(Settings { client_auth: ClientAuth::Trust, ..settings })
    }

    pub(crate) fn with_tls(mut self) -> Self {
        let source = ClientTls::Development { directory: self.certificates.path().to_owned(), clients: None };
        self.context.tls = ServerTls::load(&source).unwrap().map(Arc::new);
        self
    }

    /// A client's end, and what becomes of it.
    pub(crate) fn knock(&self) -> (UnixStream, Greeting) {
        self.knock_from(Peer::Unix { pid: None })
    }

    pub(crate) fn knock_from(&self, peer: Peer) -> (UnixStream, Greeting) {
        let (client, server) = UnixStream::pair().unwrap();
        let context = self.context.clone();
        let greeting =
            async move { in_time(greet(Socket::unix(server.into_std().unwrap()).unwrap().with_peer(peer), &context)).await };
        (client, tokio::spawn(greeting))
    }

    /// The whole exchange as `user`: what became of it, and the error the client was told.
    pub(crate) async fn login(&self, user: &str, password: &str) -> (Result<Arrival, Failure>, Option<Message>) {
        let (mut client, greeting) = self.knock();
        client.write_all(&startup_packet(0, &format!("user\0{user}\0"))).await.unwrap();
        let early = scram(&mut client, password).await;
        let arrival = greeting.await.unwrap();
        match (early, &arrival) {
            (Err(told), _) => (arrival, Some(told)),
            (Ok(signature), Ok(Arrival::Client(login))) => {
                let mut greeting = &login.greeting[..];
                let last = read(&mut greeting).await.unwrap();
                let Some(Authentication::SaslFinal(server_final)) = Authentication::parse(&last.1) else { panic!("{last:?}") };
                signature.verify(server_final).unwrap();
                assert_eq!(greeting, b"R\0\0\0\x08\0\0\0\0", "and then AuthenticationOk, and no more");
                (arrival, None)
            }
            (Ok(_), _) => (arrival, read(&mut client).await),
        }
    }
}

pub(crate) fn admitted(arrival: Result<Arrival, Failure>) -> Login {
    match arrival {
        Ok(Arrival::Client(login)) => *login,
        other => panic!("{other:?}"),
    }
}

/// Tag and body.
#[derive(Debug)]
pub(crate) struct Message(pub(crate) u8, pub(crate) Vec<u8>);

impl Message {
    /// SQLSTATE and text of an error.
    pub(crate) fn error(&self) -> (String, String) {
        assert_eq!(self.0, b'E', "{self:?}");
        let fields = Fields::new(&self.1);
        (fields.sqlstate().unwrap().to_string(), fields.message().unwrap().into_owned())
    }
}

/// `None` at the end of the stream.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    let message = async {
        let tag = stream.read_u8().await.ok()?;
        let length = stream.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await.ok()?;
        Some(Message(tag, body))
    };
    in_time(message).await
}

/// What never comes fails the test instead of holding it up.
async fn in_time<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), coming).await.expect("in time")
}

pub(crate) async fn write_request(stream: &mut (impl AsyncWrite + Unpin), write: impl FnOnce(&mut BytesMut)) {
    let mut out = BytesMut::new();
    write(&mut out);
    stream.write_all(&out).await.unwrap();
    stream.flush().await.unwrap();
}

/// The client's part between its startup packet and the server's last word, or the error it was told before.
pub(crate) async fn scram(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    password: &str,
) -> Result<AwaitingSignature, Message> {
    scram_bound(stream, password, &["SCRAM-SHA-256"], Binding::No).await
}

/// The same with channel binding, by a client that expects these mechanisms to be offered.
pub(crate) async fn scram_bound(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    password: &str,
    offered: &[&str],
    binding: Binding,
) -> Result<AwaitingSignature, Message> {
    let offer = read(stream).await.unwrap();
    if Authentication::parse(&offer.1) != Some(Authentication::Sasl(offered.to_vec())) {
        return Err(offer);
    }
    let client = ScramClient::new(binding).unwrap();
    let (mechanism, first) = (client.mechanism(), client.client_first());
    write_request(stream, |out| request::sasl_initial_response(out, mechanism, first.as_bytes())).await;
    let message = read(stream).await.unwrap();
    let Some(Authentication::SaslContinue(server_first)) = Authentication::parse(&message.1) else { return Err(message) };
    let challenge = client.server_first(server_first).unwrap();
    let keys = ScramKeys::derive(password, &challenge.salt, challenge.iterations);
    let (client_final, signature) = challenge.respond(&keys);
    write_request(stream, |out| request::sasl_response(out, client_final.as_bytes())).await;
    Ok(signature)
}
