//! An address with a user: where a client goes, and as whom.

use std::future::Future;

use tokio_postgres::{Client, NoTls};

use super::PATIENCE;
use super::wire::{self, Wire};

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    /// More startup parameters.
    pub parameters: Vec<(String, String)>,
}

impl Endpoint {
    /// The superuser, in the database `postgres`, on 127.0.0.1.
    pub fn new(port: u16) -> Self {
        Self { port, user: "postgres".into(), password: "secret".into(), database: "postgres".into(), parameters: Vec::new() }
    }

    pub fn user(mut self, user: &str) -> Self {
        self.user = user.into();
        self
    }

    pub fn password(mut self, password: &str) -> Self {
        self.password = password.into();
        self
    }

    pub fn database(mut self, database: &str) -> Self {
        self.database = database.into();
        self
    }

    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// For programs; without the further parameters.
    pub fn url(&self) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/{}", self.user, self.password, self.port, self.database)
    }

    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(&self.user).password(&self.password).dbname(&self.database);
        // What tokio-postgres has no method for goes the way libpq's PGOPTIONS goes.
        let options: Vec<String> =
            self.parameters.iter().map(|(name, value)| format!("-c {name}={}", value.replace(' ', "\\ "))).collect();
        if !options.is_empty() {
            config.options(options.join(" "));
        }
        config
    }

    /// The startup packet, for protocol 3.`minor`.
    pub fn packet(&self, minor: u16) -> Vec<u8> {
        let mut parameters = vec![("user", self.user.as_str()), ("database", &self.database)];
        parameters.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut packet = wire::startup(&parameters);
        packet[6..8].copy_from_slice(&minor.to_be_bytes());
        packet
    }

    /// A tokio-postgres client; its connection ends with it.
    pub async fn client(&self) -> Client {
        self.try_client().await.unwrap_or_else(|error| panic!("{}: {error:?}", self.url()))
    }

    pub async fn try_client(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = in_time(self.config().connect(NoTls)).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The raw client, logged in.
    pub async fn wire(&self) -> Wire {
        Wire::login(self).await
    }
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("nothing came for {PATIENCE:?}"))
}
