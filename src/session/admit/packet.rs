//! Startup packets: what of them goes where.

use crate::pool::{PoolMode, StartupKey};
use crate::session::login::Introduction;
use crate::wire::exchange::Setting;
use crate::wire::params::{Params, is_settable};
use crate::wire::startup::{Replication, Startup as StartupPacket};

/// What a server of the client's own is opened with: everything as it came, but for what names the project.
pub(super) fn startup_for_server(packet: &StartupPacket) -> StartupKey {
    let mut pairs = packet.parameters.clone();
    if !packet.options.settings.is_empty() {
        let options: Vec<_> = packet.options.settings.iter().map(|(n, v)| format!("-c {n}={}", escape(v))).collect();
        pairs.push(("options".into(), options.join(" ")));
    }
    match packet.replication {
        Replication::Off => {}
        Replication::Physical => pairs.push(("replication".into(), "true".into())),
        Replication::Database => pairs.push(("replication".into(), "database".into())),
    }
    pairs.into()
}

/// For `pg_split_opts`: white space and backslashes are taken literally behind a backslash.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        if character.is_whitespace() || character == '\\' {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// What the hosted pooler takes no notice of.
pub(super) fn without_parameters(who: &Introduction, mode: PoolMode) -> Introduction {
    let stays = |name: &str| {
        name.eq_ignore_ascii_case("search_path") || (mode == PoolMode::Session && name.eq_ignore_ascii_case("application_name"))
    };
    let mut packet = who.startup.clone();
    packet.parameters.retain(|(name, _)| stays(name));
    packet.options.settings.retain(|(name, _)| stays(name));
    Introduction::new(packet, who.route.clone())
}

/// The reported parameters with what was asked for in place, and all that was asked for, each name once.
pub(super) fn split(asked: &StartupKey, reported: &Params) -> (Params, Vec<Setting>) {
    let mut params = reported.clone();
    let mut all: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, value) in asked.iter() {
        if let Some((known, _)) = reported.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
            && is_settable(known)
        {
            params.set(known, value);
        }
        all.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        all.push((name.as_str().into(), value.as_str().into()));
    }
    (params, all)
}
