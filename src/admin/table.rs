//! Columns, rows, and how pgwire writes them.

use std::error::Error;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use futures_util::stream;
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse};
use pgwire::error::PgWireResult;
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use postgres_types::{IsNull, ToSql, to_sql_checked};

use crate::error::{PgError, SqlState};

/// PostgreSQL's numeric has digits to this base.
const NUMERIC_BASE: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int4,
    Int8,
    /// What may outgrow a signed integer: PgBouncer's counters.
    Numeric,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

pub(super) const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

pub(super) const fn int4(name: &'static str) -> Column {
    Column { name, kind: Kind::Int4 }
}

pub(super) const fn int8(name: &'static str) -> Column {
    Column { name, kind: Kind::Int8 }
}

pub(super) const fn numeric(name: &'static str) -> Column {
    Column { name, kind: Kind::Numeric }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Number(u64),
}

pub(super) type Row = Vec<Cell>;

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<bool> for Cell {
    fn from(is: bool) -> Self {
        Self::Number(is.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(maybe: Option<T>) -> Self {
        maybe.map_or(Self::Null, Into::into)
    }
}

/// In the formats that a client asked for.
///
/// # Errors
/// 08P01 for a number of formats that is neither none, one, nor that of the columns.
pub(super) fn schema(columns: &[Column], formats: &Format) -> Result<Vec<FieldInfo>, PgError> {
    if let Format::Individual(codes) = formats
        && codes.len() != columns.len()
    {
        let message = format!("bind message has {} result formats but query has {} columns", codes.len(), columns.len());
        return Err(PgError::error(SqlState::PROTOCOL_VIOLATION, message));
    }
    let format = |at: usize| match formats {
        Format::UnifiedText => FieldFormat::Text,
        Format::UnifiedBinary => FieldFormat::Binary,
        Format::Individual(codes) => codes.get(at).map_or(FieldFormat::Text, |code| FieldFormat::from(*code)),
    };
    let field = |(at, column): (usize, &Column)| {
        let (kind, size) = match column.kind {
            Kind::Text => (Type::TEXT, -1),
            Kind::Int4 => (Type::INT4, 4),
            Kind::Int8 => (Type::INT8, 8),
            Kind::Numeric => (Type::NUMERIC, -1),
        };
        FieldInfo::new(column.name.to_owned(), None, None, kind, format(at)).with_type_size(size)
    };
    Ok(columns.iter().enumerate().map(field).collect())
}

/// Rows, with PgBouncer's tag.
pub(super) fn response(fields: Vec<FieldInfo>, rows: Vec<Row>) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(fields);
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    let mut encoded = Vec::with_capacity(rows.len());
    for row in &rows {
        // The encoder panics on more cells than there are columns.
        for cell in row.iter().take(fields.len()) {
            encoder.encode_field(cell)?;
        }
        encoded.push(Ok(encoder.take_row()));
    }
    let mut response = QueryResponse::new(fields, stream::iter(encoded));
    response.set_command_tag("SHOW");
    Ok(response)
}

impl ToSql for Cell {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match (self, ty) {
            (Self::Null, _) => return Ok(IsNull::Yes),
            (Self::Text(text), _) => out.put_slice(text.as_bytes()),
            (Self::Number(number), &Type::INT4) => out.put_i32(i32::try_from(*number).unwrap_or(i32::MAX)),
            (Self::Number(number), &Type::INT8) => out.put_i64(i64::try_from(*number).unwrap_or(i64::MAX)),
            (Self::Number(number), &Type::NUMERIC) => put_numeric(*number, out),
            (Self::Number(number), _) => out.put_slice(number.to_string().as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSqlText for Cell {
    fn to_sql_text(&self, ty: &Type, out: &mut BytesMut, _: &FormatOptions) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Number(number) => {
                let most = match *ty {
                    Type::INT4 => i32::MAX as u64,
                    Type::INT8 => i64::MAX as u64,
                    _ => u64::MAX,
                };
                out.put_slice((*number).min(most).to_string().as_bytes());
            }
        }
        Ok(IsNull::No)
    }
}

/// `numeric_send`: how many digits to the base, the weight of the first, sign, digits behind the point, the digits.
fn put_numeric(number: u64, out: &mut BytesMut) {
    let mut digits = Vec::new();
    let mut rest = number;
    while rest > 0 {
        digits.push((rest % NUMERIC_BASE) as u16);
        rest /= NUMERIC_BASE;
    }
    let weight = digits.len().saturating_sub(1) as u16;
    out.put_u16(digits.len() as u16);
    out.put_u16(weight);
    out.put_u32(0);
    digits.iter().rev().for_each(|digit| out.put_u16(*digit));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(cell: &Cell, ty: &Type) -> Vec<u8> {
        let mut out = BytesMut::new();
        cell.to_sql(ty, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn numbers_in_binary() {
        assert_eq!(binary(&Cell::Number(7), &Type::INT4), 7_i32.to_be_bytes());
        assert_eq!(binary(&Cell::Number(u64::MAX), &Type::INT4), i32::MAX.to_be_bytes());
        assert_eq!(binary(&Cell::Number(7), &Type::INT8), 7_i64.to_be_bytes());
        assert_eq!(binary(&Cell::Number(0), &Type::NUMERIC), [0; 8]);
        assert_eq!(binary(&Cell::Number(10_000), &Type::NUMERIC), [0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(binary(&Cell::Number(123_456_789), &Type::NUMERIC), [0, 3, 0, 2, 0, 0, 0, 0, 0, 1, 0x09, 0x29, 0x1a, 0x85]);
    }

    #[test]
    fn formats_are_none_one_or_as_many_as_columns() {
        let columns = [text("a"), int4("b")];
        for good in [Format::UnifiedText, Format::UnifiedBinary, Format::Individual(vec![0, 1])] {
            assert_eq!(schema(&columns, &good).unwrap().len(), 2);
        }
        let error = schema(&columns, &Format::Individual(vec![0, 1, 1])).unwrap_err();
        assert_eq!(error.code, SqlState::PROTOCOL_VIOLATION);
    }
}
