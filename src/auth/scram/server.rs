//! The server's side, towards clients, with PostgreSQL's errors, comparisons in constant time, and the client's key out of its
//! proof.
//!
//! pgwire has such a server too, but takes a certificate only as PEM, and not every kind; compares in variable time; and
//! keeps the client's key to itself.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::auth::keys::{ClientKey, KEY_BYTES, ScramKeys, ServerKey, StoredKey, hmac, xor};
use crate::auth::process_secret::random;
use crate::auth::scram::channel_binding;
use crate::auth::scram::message::{ClientFinal, ClientFirst, Flag, malformed, violation};
use crate::auth::verifier::Verifier;
use crate::error::{PgError, SqlState};

/// Of our part of the nonce, before base64; PostgreSQL's `SCRAM_RAW_NONCE_LEN`.
const NONCE_BYTES: usize = 18;

/// Against what a client's proof is checked.
#[derive(Clone, Debug)]
pub enum Candidate {
    Known(Verifier),
    /// Nobody: the exchange runs to its end and then fails, so that it does not tell who exists.
    Unknown(Verifier),
}

/// What was offered and chosen before the first message, about binding the exchange to its TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// There was nothing to bind to: only SCRAM-SHA-256 was offered.
    NotOffered,
    /// The client chose SCRAM-SHA-256, though SCRAM-SHA-256-PLUS was offered.
    NotChosen,
    /// SCRAM-SHA-256-PLUS, with the hash of our certificate (RFC 5929 §4.1).
    EndPoint(&'a [u8]),
}

/// The client's first message was answered; its proof is awaited.
pub struct AwaitingProof {
    stored_key: StoredKey,
    server_key: ServerKey,
    known: Known,
    /// What the client must repeat: base64 of its gs2 header and the binding's data.
    binding: String,
    is_bound: bool,
    nonce: String,
    /// The part of AuthMessage that has been said: client-first-bare and server-first, each with a comma behind it.
    said: String,
}

/// A client that proved itself.
#[derive(Debug)]
pub struct Proven {
    /// To be sent with AuthenticationSASLFinal.
    pub server_final: String,
    /// What logs in to a server that has the same verifier.
    pub keys: ScramKeys,
}

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Or no such user: nothing here tells which.
    WrongPassword,
    Malformed(PgError),
}

#[derive(Clone, Copy)]
enum Known {
    Yes,
    No,
}

/// Answers the client's first message: the text for AuthenticationSASLContinue, and what is to come.
pub fn begin(client_first: &[u8], candidate: Candidate, binding: Binding<'_>) -> Result<(String, AwaitingProof), Rejection> {
    let first = ClientFirst::parse(client_first).map_err(Rejection::Malformed)?;
    let data = agree(first.flag, binding).map_err(Rejection::Malformed)?;
    let (verifier, known) = match candidate {
        Candidate::Known(verifier) => (verifier, Known::Yes),
        Candidate::Unknown(verifier) => (verifier, Known::No),
    };
    let ours = random::<NONCE_BYTES>().map_err(|_| Rejection::Malformed(no_randomness()))?;
    let nonce = format!("{}{}", first.nonce, STANDARD.encode(ours));
    let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
    let awaiting = AwaitingProof {
        stored_key: verifier.stored_key,
        server_key: verifier.server_key,
        known,
        binding: channel_binding(first.gs2_header, data),
        is_bound: !data.is_empty(),
        nonce,
        said: format!("{},{server_first},", first.bare),
    };
    Ok((server_first, awaiting))
}

/// The data to bind to, if what the client says fits what it chose. As PostgreSQL's `read_client_first_message`.
fn agree(flag: Flag, binding: Binding<'_>) -> Result<&[u8], PgError> {
    match (flag, binding) {
        (Flag::EndPoint, Binding::EndPoint(data)) => Ok(data),
        (Flag::EndPoint, _) => Err(malformed(
            "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
        )),
        (_, Binding::EndPoint(_)) => {
            Err(malformed("The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data."))
        }
        // It was offered, and the client did not see it: somebody in between has taken it out.
        (Flag::Could, Binding::NotChosen) => {
            let error = PgError::fatal(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding negotiation error");
            Err(error.with_detail(
                "The client supports SCRAM channel binding but thinks the server does not.  However, this server does support \
                 channel binding.",
            ))
        }
        (Flag::No, Binding::NotChosen) | (Flag::No | Flag::Could, Binding::NotOffered) => Ok(b""),
    }
}

fn no_randomness() -> PgError {
    PgError::fatal(SqlState::INTERNAL_ERROR, "could not generate random nonce")
}

impl AwaitingProof {
    /// Checks the client's last message.
    pub fn finish(self, client_final: &[u8]) -> Result<Proven, Rejection> {
        let message = ClientFinal::parse(client_final).map_err(Rejection::Malformed)?;
        if !bool::from(message.binding.as_bytes().ct_eq(self.binding.as_bytes())) {
            return Err(Rejection::Malformed(if self.is_bound {
                // The client is connected to another certificate than ours.
                PgError::fatal(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding check failed")
            } else {
                violation("unexpected SCRAM channel-binding attribute in client-final-message")
            }));
        }
        if message.nonce != self.nonce {
            return Err(Rejection::Malformed(violation("invalid SCRAM response").with_detail("Nonce does not match.")));
        }
        let auth_message = format!("{}{}", self.said, message.without_proof);
        let client = self.client_key(&message, &auth_message)?;
        let proven = client.stored() == self.stored_key && matches!(self.known, Known::Yes);
        if !proven {
            return Err(Rejection::WrongPassword);
        }
        let signature = hmac(self.server_key.reveal(), auth_message.as_bytes());
        let server_final = format!("v={}", STANDARD.encode(signature));
        Ok(Proven { server_final, keys: ScramKeys { client, server: self.server_key } })
    }

    /// ClientKey = ClientProof XOR HMAC(StoredKey, AuthMessage), if the proof was made with that key.
    fn client_key(&self, message: &ClientFinal<'_>, auth_message: &str) -> Result<ClientKey, Rejection> {
        let proof = (message.proof.len() <= KEY_BYTES * 2).then(|| STANDARD.decode(message.proof).ok()).flatten();
        let proof: Option<[u8; KEY_BYTES]> = proof.and_then(|proof| proof.try_into().ok());
        let proof = proof.ok_or_else(|| Rejection::Malformed(malformed("Malformed proof in client-final-message.")))?;
        let signature = hmac(self.stored_key.reveal(), auth_message.as_bytes());
        Ok(ClientKey::new(xor(&proof, &signature)))
    }
}

impl fmt::Debug for AwaitingProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwaitingProof").finish_non_exhaustive()
    }
}
