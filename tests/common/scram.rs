//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), written apart from the one under test. For one test user: no
//! channel binding, no password preparation.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

const NONCE: &str = "a test needs no secret";

pub struct Exchange {
    password: String,
    /// What the server proves itself with.
    expected: Option<String>,
}

impl Exchange {
    pub fn new(password: &str) -> Self {
        Self { password: password.into(), expected: None }
    }

    /// SASLInitialResponse: the mechanism and the client's first message.
    pub fn first(&self) -> Vec<u8> {
        let first = format!("n,,n=,r={}", nonce());
        let length = u32::try_from(first.len()).expect("it is short").to_be_bytes();
        [b"SCRAM-SHA-256\0", &length[..], first.as_bytes()].concat()
    }

    /// The client's final message.
    pub fn last(&mut self, server_first: &str) -> Vec<u8> {
        let field = |name: &str| {
            let found = server_first.split(',').find_map(|field| field.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {server_first:?}"))
        };
        let (salt, rounds) = (STANDARD.decode(field("s=")).expect("base64"), field("i=").parse().expect("a number"));
        assert!(field("r=").starts_with(&nonce()), "the server takes up our nonce");
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(rounds).expect("at least one");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, self.password.as_bytes(), &mut salted);

        let without_proof = format!("c=biws,r={}", field("r="));
        let signed = format!("n=,r={},{server_first},{without_proof}", nonce());
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(digest::digest(&digest::SHA256, &client_key).as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.expected = Some(format!("v={}", STANDARD.encode(mac(&mac(&salted, b"Server Key"), signed.as_bytes()))));
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }

    pub fn verify(&self, server_last: &str) {
        assert_eq!(Some(server_last), self.expected.as_deref(), "the server knows the password too");
    }
}

fn nonce() -> String {
    STANDARD.encode(NONCE)
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}
