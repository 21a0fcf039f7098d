//! Upstreams that do not know the password, or do not keep to the protocol: the client is told so, the log says how.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::Sidepool;

/// What the upstream does after the startup packet, and what the log says of it.
const CASES: [(Script, &str); 9] = [
    (Script::Says(b"R\0\0\0\x03"), "a message 'R' of 3 bytes"),
    (Script::Says(b"R\x7f\xff\xff\xff"), "a message 'R' of 2147483647 bytes"),
    (Script::Says(b"R\0\0\0\x09\0\0\0\x0aX"), "a malformed authentication request"),
    (Script::Says(b"R\0\0\0\x08\0\0\0\x0c"), "an authentication message out of order"),
    (
        Script::Says(b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
        "SCRAM-SHA-256-PLUS on a connection without TLS",
    ),
    (Script::Answers(b"r=someone else's,s=YQ==,i=1"), "the server's nonce does not continue ours"),
    (Script::Answers(b"r="), "server-first-message has no salt"),
    (Script::LetsIn, "an authentication message out of order"),
    (Script::Forges, "the server's signature is wrong"),
];

#[derive(Clone, Copy)]
enum Script {
    /// Instead of an offer.
    Says(&'static [u8]),
    /// To the client's first message.
    Answers(&'static [u8]),
    /// Before it has proved itself.
    LetsIn,
    /// A proof.
    Forges,
}

impl Script {
    async fn play(self, mut stream: TcpStream) -> std::io::Result<()> {
        let length = stream.read_u32().await?;
        stream.read_exact(&mut vec![0; length as usize - 4]).await?;
        if let Self::Says(bytes) = self {
            stream.write_all(bytes).await?;
            // Padded, so that a length that is a lie is not just waited for.
            stream.write_all(&[0; 64]).await?;
        } else {
            stream.write_all(&authentication(10, b"SCRAM-SHA-256\0\0")).await?;
            let first = String::from_utf8_lossy(&message(&mut stream).await?).into_owned();
            let nonce = first.rsplit_once("r=").map_or("", |(_, nonce)| nonce);
            let continued = format!("r={nonce}x,s=YQ==,i=1");
            stream
                .write_all(&authentication(11, if let Self::Answers(bytes) = self { bytes } else { continued.as_bytes() }))
                .await?;
            message(&mut stream).await?;
            stream
                .write_all(&match self {
                    Self::Forges => authentication(12, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
                    _ => authentication(0, b""),
                })
                .await?;
        }
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    }
}

fn authentication(kind: u32, data: &[u8]) -> Vec<u8> {
    [b"R", &(8 + data.len() as u32).to_be_bytes()[..], &kind.to_be_bytes(), data].concat()
}

async fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.map(|_| body)
}

#[tokio::test]
async fn trap_68_a_hostile_upstream_ends_in_a_clear_error() {
    for (script, told) in CASES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // How it ends is what the client and the log are asked.
                drop(tokio::spawn(script.play(stream)));
            }
        });
        let file = format!("upstream = \"postgres://postgres:secret@127.0.0.1:{port}/postgres?sslmode=disable\"");
        let sidepool = tokio::task::spawn_blocking(move || Sidepool::launch(&[], &file)).await.unwrap().unwrap();
        let error = match sidepool.transaction().try_client().await {
            Err(error) => error,
            Ok(client) => client.query_one("SELECT 1", &[]).await.unwrap_err(),
        };
        assert_eq!(error.code().map(|code| code.code()), Some("08P01"), "{told}: {error:?}");
        let text = format!("{error:?}");
        assert!(text.contains("the upstream server broke the protocol while logging in"), "{text}");
        sidepool.log_has(told);
        upstream.abort();
    }
}
