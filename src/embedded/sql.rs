//! Set-up statements over the Unix socket: as much of the simple query protocol as they need. (The npm packages bring no psql.)

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::cluster::SUPERUSER;
use super::{Error, Server};

/// The longest message taken from the server, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The most rows one call answers with.
const MAX_ROWS: usize = 10_000;

/// A row of a result, as text.
pub type Row = Vec<Option<String>>;

/// A role that may log in.
#[derive(Clone, Copy)]
pub struct Role<'a> {
    pub name: &'a str,
    pub password: Option<&'a str>,
    /// As in CREATE ROLE: `CREATEDB SUPERUSER`.
    pub attributes: &'a str,
}

impl Server {
    /// Runs one or several statements as the superuser `postgres`; answers with the rows of them all.
    ///
    /// # Errors
    /// [`Error::Sql`] with the server's message, [`Error::File`] when the socket does not answer.
    pub async fn execute(&self, database: &str, sql: &str) -> Result<Vec<Row>, Error> {
        let mut connection = Connection::open(&self.socket(), database).await?;
        connection.send(Some(b'Q'), &[sql.as_bytes(), b"\0"].concat()).await?;
        connection.replies().await
    }

    /// Makes the role, or gives one that is there this password and these attributes.
    ///
    /// # Errors
    /// As [`Server::execute`].
    pub async fn create_role(&self, role: &Role<'_>) -> Result<(), Error> {
        let known = self.execute("postgres", &format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(role.name))).await?;
        let verb = if known.is_empty() { "CREATE" } else { "ALTER" };
        let password = role.password.map_or("NULL".into(), literal);
        let sql = format!("{verb} ROLE {} LOGIN {} PASSWORD {password}", identifier(role.name), role.attributes);
        self.execute("postgres", &sql).await.map(drop)
    }

    /// Makes the database unless it is there.
    ///
    /// # Errors
    /// As [`Server::execute`].
    pub async fn create_database(&self, name: &str, owner: &str) -> Result<(), Error> {
        let known = self.execute("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(name))).await?;
        if known.is_empty() {
            let sql = format!("CREATE DATABASE {} OWNER {}", identifier(name), identifier(owner));
            self.execute("postgres", &sql).await?;
        }
        Ok(())
    }
}

/// Quoted, for use as a name.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quoted, for use as a value, whatever `standard_conforming_strings` says.
pub fn literal(value: &str) -> String {
    format!(" E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

struct Connection {
    stream: UnixStream,
    socket: std::path::PathBuf,
}

impl Connection {
    /// Statements may hold passwords, so that the server is told not to log them.
    async fn open(socket: &Path, database: &str) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).await.map_err(Error::file("connecting to", socket))?;
        let mut connection = Self { stream, socket: socket.to_owned() };
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        let quiet = "-c log_min_error_statement=panic -c log_statement=none -c log_min_duration_statement=-1";
        for text in ["user", SUPERUSER, "database", database, "options", quiet, ""] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        connection.send(None, &startup).await?;
        connection.replies().await?;
        Ok(connection)
    }

    async fn send(&mut self, tag: Option<u8>, body: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(body.len() + 4).map_err(|_| sql("the statement is too long".into()))?;
        let mut message: Vec<u8> = tag.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).await.map_err(Error::file("writing to", &self.socket))
    }

    /// Up to ReadyForQuery. The first error counts, and what a session must end with comes before the end of the stream.
    async fn replies(&mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.message().await {
                Err(error) => return Err(failed.unwrap_or(error)),
                Ok((b'Z', _)) => return failed.map_or(Ok(rows), Err),
                Ok((b'E', body)) => failed = failed.or_else(|| Some(sql(complaint(&body)))),
                Ok((b'R', body)) if body != [0; 4] => return Err(sql("it asks for a password on its own socket".into())),
                Ok((b'D', body)) if rows.len() < MAX_ROWS => {
                    rows.push(row(&body).ok_or_else(|| sql("a row could not be read".into()))?);
                }
                Ok((b'D', _)) => return Err(sql(format!("it answered with more than {MAX_ROWS} rows"))),
                Ok(_) => {}
            }
        }
    }

    async fn message(&mut self) -> Result<(u8, Vec<u8>), Error> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).await.map_err(Error::file("reading from", &self.socket))?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=MAX_MESSAGE_BYTES).contains(&length) {
            return Err(sql(format!("it sent a message of {length} bytes")));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await.map_err(Error::file("reading from", &self.socket))?;
        Ok((head[0], body))
    }
}

fn sql(message: String) -> Error {
    Error::Sql { message }
}

/// DataRow: a count, then each value with its length, -1 for NULL.
fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        values.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => None,
            Ok(length) => {
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            }
        });
    }
    Some(values)
}

/// The message of an ErrorResponse: fields, each a letter and a text that ends in a zero.
fn complaint(body: &[u8]) -> String {
    let message = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
    message.map_or_else(|| "it does not say why".into(), |text| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_leaves_nothing_to_break_out_with() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal(r"it's \'"), r" E'it''s \\'''");
    }

    #[test]
    fn rows_that_lie_about_their_length_are_refused() {
        assert_eq!(row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"), Some(vec![Some("a".into()), None]));
        assert_eq!(row(b"\0\x01\0\0\0\x02a"), None);
        assert_eq!(row(b"\0\x01\0\0"), None);
        assert_eq!(row(b"\0"), None);
    }
}
