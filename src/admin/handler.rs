//! Statements run, behind pgwire's handlers: the simple and the extended protocol come to the same.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Sink, SinkExt};
use parking_lot::Mutex;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldInfo, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;

use super::Desk;
use super::commands::{COMMANDS, Means};
use super::role::Role;
use super::statement::Statement;
use super::table::{self, Column, int4, text};
use super::views::{Scene, VIEWS};
use crate::error::{PgError, Severity, SqlState};
use crate::server::Signal;
use crate::session::House;

/// Of one console session.
pub(super) struct Handler {
    pub(super) desk: Arc<Desk>,
    pub(super) house: Arc<House>,
    /// Who logged in.
    pub(super) project: String,
    pub(super) user: String,
    /// What the process is to do when the client has its answer.
    pub(super) asked: Mutex<Option<Signal>>,
}

impl Handler {
    /// One statement, in the formats the client asked for.
    async fn run<C>(&self, client: &mut C, statement: &Statement, formats: &Format) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        PgWireError: From<C::Error>,
    {
        let settings = self.house.settings.get();
        let role = Role::of(&settings, &self.project, &self.user).map_err(|error| wired(as_error(error)))?;
        match statement {
            Statement::View(view, limit) => {
                let (view, limit, formats) = (*view, limit.unwrap_or(usize::MAX), formats.clone());
                let (desk, house) = (Arc::clone(&self.desk), Arc::clone(&self.house));
                // Thousands of connections are milliseconds: not for a data worker.
                let looked = tokio::task::spawn_blocking(move || {
                    let mut found = (view.rows)(&Scene { desk: &desk, house: &house, settings: &settings });
                    found.truncate(limit);
                    rows(view.columns, &formats, found)
                });
                looked.await.unwrap_or_else(|_| Err(wired(PgError::error(SqlState::INTERNAL_ERROR, "the look was interrupted"))))
            }
            Statement::Constant(name, value) => rows(&[text(name)], formats, vec![vec![(*value).into()]]),
            Statement::One => rows(&[int4("?column?")], formats, vec![vec![1_usize.into()]]),
            Statement::Help => {
                notice(client, &PgError::notice(HELP_TITLE).with_detail(help())).await?;
                Ok(Response::Execution(Tag::new("SHOW")))
            }
            Statement::Ignored(tag) => {
                if *tag == "SET" {
                    notice(client, &PgError::notice("SET ignored")).await?;
                }
                Ok(Response::Execution(Tag::new(tag)))
            }
            Statement::Begin(tag) => Ok(Response::TransactionStart(Tag::new(tag))),
            Statement::End(tag) => Ok(Response::TransactionEnd(Tag::new(tag))),
            Statement::Command(command, argument) => {
                role.may_command(command.name).map_err(wired)?;
                tracing::info!(user = self.user, command = command.name, ?argument, "console command");
                let means = Means { house: &self.house, reins: &self.desk.reins, console: &*self.desk };
                let done = command.run(&means, argument).await.map_err(wired)?;
                for told in &done.notices {
                    notice(client, told).await?;
                }
                if done.signal.is_some() {
                    *self.asked.lock() = done.signal;
                }
                Ok(Response::Execution(Tag::new(command.name)))
            }
        }
    }
}

fn rows(columns: &[Column], formats: &Format, rows: Vec<table::Row>) -> PgWireResult<Response> {
    let fields = table::schema(columns, formats).map_err(wired)?;
    Ok(Response::Query(table::response(fields, rows)?))
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = Statement::parse(query).map_err(wired)?;
        let mut responses = Vec::with_capacity(statements.len());
        for statement in &statements {
            match self.run(client, statement, &Format::UnifiedText).await {
                Ok(response) => responses.push(response),
                // What came before it was done.
                Err(error) => {
                    responses.push(Response::Error(Box::new(error.into())));
                    break;
                }
            }
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Statement;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser)
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Statement>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.run(client, &portal.statement.statement, &portal.result_column_format).await
    }
}

/// Reads statements for the extended protocol: one at a time, as in PostgreSQL.
#[derive(Debug)]
pub(super) struct Parser;

#[async_trait]
impl QueryParser for Parser {
    type Statement = Statement;

    async fn parse_sql<C>(&self, _: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = Statement::parse(sql).map_err(wired)?;
        if statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(wired(PgError::error(SqlState::SYNTAX_ERROR, message)));
        }
        Ok(statements.pop())
    }

    fn get_parameter_types(&self, _: &Statement) -> PgWireResult<Vec<Type>> {
        Ok(Vec::new())
    }

    fn get_result_schema(&self, statement: &Statement, formats: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let formats = formats.unwrap_or(&Format::UnifiedText);
        let columns: &[Column] = match statement {
            Statement::View(view, _) => view.columns,
            Statement::Constant(name, _) => &[text(name)],
            Statement::One => &[int4("?column?")],
            _ => &[],
        };
        // A format for each of no columns is what drivers send that know no better.
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        table::schema(columns, formats).map_err(wired)
    }
}

const HELP_TITLE: &str = "Console usage";

/// Both tables, one line each.
fn help() -> String {
    let views: Vec<_> = VIEWS.iter().map(|view| view.name.to_uppercase()).collect();
    let commands = COMMANDS.iter().map(|command| command.usage);
    let lines = std::iter::once(format!("SHOW HELP|{}", views.join("|"))).chain(commands.map(str::to_owned));
    lines.map(|line| format!("\n\t{line}")).collect()
}

async fn notice<C>(client: &mut C, notice: &PgError) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin,
    PgWireError: From<C::Error>,
{
    client.feed(PgWireBackendMessage::NoticeResponse(info(notice).into())).await?;
    Ok(())
}

/// What would have ended a login ends a statement.
fn as_error(error: PgError) -> PgError {
    PgError { severity: Severity::Error, ..error }
}

/// As pgwire carries it.
pub(super) fn wired(error: PgError) -> PgWireError {
    PgWireError::UserError(Box::new(info(&error)))
}

fn info(error: &PgError) -> ErrorInfo {
    let severity = error.severity.as_str().to_owned();
    let mut info = ErrorInfo::new(severity.clone(), error.code.as_str().to_owned(), clean(&error.message));
    info.severity_nonlocalized = Some(severity);
    info.detail = error.detail.as_deref().map(clean);
    info.hint = error.hint.as_deref().map(clean);
    info
}

/// A NUL would end the text, and make the rest of the message something else.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
