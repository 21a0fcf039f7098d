//! The server's side, towards clients: pgwire's two pure types do the exchange, and what they do not give is added here:
//! PostgreSQL's errors, a comparison in constant time, and the client's key out of its proof.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth, ScramServerAuthWaitingForClientFinal};

use crate::auth::keys::{ClientKey, KEY_BYTES, ScramKeys, ServerKey, StoredKey, hmac, xor};
use crate::auth::scram::message::{Attributes, ClientFinal, ClientFirst, malformed, violation};
use crate::auth::verifier::Verifier;
use crate::error::PgError;

/// Against what a client's proof is checked.
#[derive(Clone, Debug)]
pub enum Candidate {
    Known(Verifier),
    /// Nobody: the exchange runs to its end and then fails, so that it does not tell who exists.
    Unknown(Verifier),
}

/// The client's first message was answered; its proof is awaited.
pub struct AwaitingProof {
    exchange: ScramServerAuthWaitingForClientFinal,
    stored_key: StoredKey,
    server_key: ServerKey,
    known: Known,
    /// What the client must repeat: base64 of its gs2 header.
    binding: String,
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
pub fn begin(client_first: &[u8], candidate: Candidate) -> Result<(String, AwaitingProof), Rejection> {
    let first = ClientFirst::parse(client_first).map_err(Rejection::Malformed)?;
    let (verifier, known) = match candidate {
        Candidate::Known(verifier) => (verifier, Known::Yes),
        Candidate::Unknown(verifier) => (verifier, Known::No),
    };
    let secret = ScramSecret::Verifier {
        salt: verifier.salt,
        iterations: verifier.iterations.get() as usize,
        stored_key: verifier.stored_key.reveal().to_vec(),
        server_key: verifier.server_key.reveal().to_vec(),
    };
    let (server_first, exchange) = ScramServerAuth::new()
        .on_client_first_message_with_secret(client_first, secret)
        .map_err(|_| Rejection::Malformed(malformed("The first message is not understood.")))?;
    let awaiting = AwaitingProof {
        exchange,
        stored_key: verifier.stored_key,
        server_key: verifier.server_key,
        known,
        binding: STANDARD.encode(first.gs2_header),
        nonce: Attributes::of(&server_first).value('r').unwrap_or_default().to_owned(),
        said: format!("{},{server_first},", first.bare),
    };
    Ok((server_first, awaiting))
}

impl AwaitingProof {
    /// Checks the client's last message.
    pub fn finish(self, client_final: &[u8]) -> Result<Proven, Rejection> {
        let message = ClientFinal::parse(client_final).map_err(Rejection::Malformed)?;
        if message.binding != self.binding {
            let text = "unexpected SCRAM channel-binding attribute in client-final-message";
            return Err(Rejection::Malformed(violation(text)));
        }
        if message.nonce != self.nonce {
            return Err(Rejection::Malformed(violation("invalid SCRAM response").with_detail("Nonce does not match.")));
        }
        let client = self.client_key(&message)?;
        // pgwire compares too, but not in constant time; so it is asked only once the proof is known to be right.
        let proven = client.stored() == self.stored_key && matches!(self.known, Known::Yes);
        if !proven {
            return Err(Rejection::WrongPassword);
        }
        let server_final = self.exchange.on_client_final_message(client_final).map_err(|_| Rejection::WrongPassword)?;
        Ok(Proven { server_final, keys: ScramKeys { client, server: self.server_key } })
    }

    /// ClientKey = ClientProof XOR HMAC(StoredKey, AuthMessage), if the proof was made with that key.
    fn client_key(&self, message: &ClientFinal<'_>) -> Result<ClientKey, Rejection> {
        let proof = (message.proof.len() <= KEY_BYTES * 2).then(|| STANDARD.decode(message.proof).ok()).flatten();
        let proof: Option<[u8; KEY_BYTES]> = proof.and_then(|proof| proof.try_into().ok());
        let proof = proof.ok_or_else(|| Rejection::Malformed(malformed("Malformed proof in client-final-message.")))?;
        let auth_message = format!("{}{}", self.said, message.without_proof);
        let signature = hmac(self.stored_key.reveal(), auth_message.as_bytes());
        Ok(ClientKey::new(xor(&proof, &signature)))
    }
}

impl fmt::Debug for AwaitingProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwaitingProof").finish_non_exhaustive()
    }
}
