//! The client's side, towards servers: a password or the keys of one, and a server that has to prove itself too.
//!
//! Each step takes the one before by value, so none can be left out or done twice.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::auth::keys::{KEY_BYTES, ScramKeys, hmac, xor};
use crate::auth::process_secret::{NoRandomness, random};
use crate::auth::scram::message::{Attributes, is_nonce};
use crate::auth::scram::{GS2_END_POINT, MECHANISM, MECHANISM_PLUS, channel_binding};
use crate::auth::verifier::{parse_iterations, parse_salt};

/// Whether the exchange is bound to its TLS connection, which the server gets to see again under the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `n`: we do not bind.
    No,
    /// `y`: we would, but the server did not offer it. One that did offer it then knows that somebody took it out.
    NotOffered,
    /// `p`, with SCRAM-SHA-256-PLUS: the hash of the server's certificate (RFC 5929 §4.1).
    EndPoint(Arc<[u8]>),
}

/// Begun; the server's first message is awaited.
#[derive(Debug)]
pub struct ScramClient {
    binding: Binding,
    bare: String,
    nonce: String,
}

/// What the server asked: the keys for this salt and count.
pub struct Challenge {
    pub salt: Vec<u8>,
    pub iterations: NonZeroU32,
    binding: Binding,
    nonce: String,
    /// client-first-bare and server-first, each with a comma behind it.
    said: String,
}

/// The proof was sent; the server's own is awaited.
pub struct AwaitingSignature {
    expected: [u8; KEY_BYTES],
}

/// What a server did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFault {
    Malformed(&'static str),
    /// Its nonce does not continue ours: an answer to somebody else.
    Nonce,
    /// More than [`crate::auth::keys::ITERATIONS_MAX`], or none.
    Iterations,
    /// It does not know the password either: not the server we mean, or one with another verifier.
    Signature,
    /// It says so itself (`e=`).
    Refused(String),
}

impl ScramClient {
    pub fn new(binding: Binding) -> Result<Self, NoRandomness> {
        // PostgreSQL takes the user's name from the startup packet and wants none here.
        Ok(Self::with(binding, "", &STANDARD.encode(random::<18>()?)))
    }

    pub(super) fn with(binding: Binding, user: &str, nonce: &str) -> Self {
        Self { binding, bare: format!("n={user},r={nonce}"), nonce: nonce.to_owned() }
    }

    /// For SASLInitialResponse.
    pub fn mechanism(&self) -> &'static str {
        match self.binding {
            Binding::No | Binding::NotOffered => MECHANISM,
            Binding::EndPoint(_) => MECHANISM_PLUS,
        }
    }

    /// For SASLInitialResponse.
    pub fn client_first(&self) -> String {
        format!("{}{}", self.binding.gs2_header(), self.bare)
    }

    pub fn server_first(self, message: &[u8]) -> Result<Challenge, ServerFault> {
        let text = std::str::from_utf8(message).map_err(|_| ServerFault::Malformed("server-first-message is not UTF-8"))?;
        let mut attributes = Attributes::of(text);
        let nonce = attributes.value('r').ok_or(ServerFault::Malformed("server-first-message has no nonce"))?;
        let salt = attributes.value('s').ok_or(ServerFault::Malformed("server-first-message has no salt"))?;
        let iterations = attributes.value('i').ok_or(ServerFault::Malformed("server-first-message has no iterations"))?;
        if !is_nonce(nonce) || nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ServerFault::Nonce);
        }
        Ok(Challenge {
            salt: parse_salt(salt).ok_or(ServerFault::Malformed("server-first-message has a bad salt"))?,
            iterations: parse_iterations(iterations).ok_or(ServerFault::Iterations)?,
            binding: self.binding,
            nonce: nonce.to_owned(),
            said: format!("{},{text},", self.bare),
        })
    }
}

impl Binding {
    fn gs2_header(&self) -> &'static str {
        match self {
            Self::No => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => GS2_END_POINT,
        }
    }

    fn text(&self) -> String {
        let data: &[u8] = match self {
            Self::No | Self::NotOffered => b"",
            Self::EndPoint(hash) => hash,
        };
        channel_binding(self.gs2_header(), data)
    }
}

impl Challenge {
    /// The text for SASLResponse, and what is to come.
    pub fn respond(self, keys: &ScramKeys) -> (String, AwaitingSignature) {
        let without_proof = format!("c={},r={}", self.binding.text(), self.nonce);
        let auth_message = format!("{}{without_proof}", self.said);
        let signature = hmac(keys.client.stored().reveal(), auth_message.as_bytes());
        let proof = STANDARD.encode(xor(keys.client.reveal(), &signature));
        let expected = hmac(keys.server.reveal(), auth_message.as_bytes());
        (format!("{without_proof},p={proof}"), AwaitingSignature { expected })
    }
}

impl AwaitingSignature {
    pub fn verify(self, server_final: &[u8]) -> Result<(), ServerFault> {
        let text = std::str::from_utf8(server_final).map_err(|_| ServerFault::Malformed("server-final-message is not UTF-8"))?;
        if let Some(error) = Attributes::of(text).value('e') {
            return Err(ServerFault::Refused(error.to_owned()));
        }
        let signature = Attributes::of(text).value('v').ok_or(ServerFault::Malformed("server-final-message has no signature"))?;
        let signature = STANDARD.decode(signature).map_err(|_| ServerFault::Malformed("the server signature is not base64"))?;
        if bool::from(signature.ct_eq(&self.expected)) { Ok(()) } else { Err(ServerFault::Signature) }
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Debug for AwaitingSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwaitingSignature")
    }
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Nonce => f.write_str("the server's nonce does not continue ours"),
            Self::Iterations => f.write_str("the server's iteration count is not a number from 1 to 10000000"),
            Self::Signature => f.write_str("the server's signature is wrong: it does not know the password"),
            Self::Refused(text) => write!(f, "the server ended the exchange: {}", text.escape_debug()),
        }
    }
}

impl std::error::Error for ServerFault {}
