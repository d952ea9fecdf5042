//! The two engines behind one small surface: a statement with its values goes in, mapped rows come
//! out. Both understand `$n`, and both hold integers of 64 bits, text and bytes; nothing else is
//! stored.

use std::str::FromStr;

use futures_util::TryStreamExt;
use sqlx::{
    Executor as _, PgConnection, Row as _, SqliteConnection,
    pool::PoolConnection,
    postgres::{PgRow, Postgres},
    sqlite::{Sqlite, SqliteRow},
};
use time::OffsetDateTime;

use super::corrupt;
use crate::domain::time_text;

/// A value to bind.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    MaybeInt(Option<i64>),
    Text(&'a str),
    MaybeText(Option<&'a str>),
    Bytes(&'a [u8]),
}

macro_rules! bound {
    ($sql:expr, $values:expr) => {
        $values
            .iter()
            .fold(sqlx::query($sql), |query, value| match *value {
                Value::Int(int) => query.bind(int),
                Value::MaybeInt(int) => query.bind(int),
                Value::Text(text) => query.bind(text),
                Value::MaybeText(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
            })
    };
}

/// A connection of either engine, lent for some statements.
pub(super) enum Session<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Session<'_> {
    /// Runs a statement; returns how many rows it touched.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(conn) => {
                let done = bound!(sql, values).execute(&mut **conn).await?;
                Ok(done.rows_affected())
            }
            Self::Postgres(conn) => {
                let done = bound!(sql, values).execute(&mut **conn).await?;
                Ok(done.rows_affected())
            }
        }
    }

    /// Runs a statement without values that is not worth preparing.
    pub(super) async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(conn) => conn.execute(sql).await.map(drop),
            Self::Postgres(conn) => conn.execute(sql).await.map(drop),
        }
    }

    /// Runs a query; maps each row as it arrives.
    pub(super) async fn fetch<T>(
        &mut self,
        sql: impl sqlx::SqlSafeStr,
        values: &[Value<'_>],
        mut map: impl FnMut(&Fields) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, sqlx::Error> {
        let mut mapped = Vec::new();
        match self {
            Self::Sqlite(conn) => {
                let mut rows = bound!(sql, values).fetch(&mut **conn);
                while let Some(row) = rows.try_next().await? {
                    mapped.push(map(&Fields::Sqlite(row))?);
                }
            }
            Self::Postgres(conn) => {
                let mut rows = bound!(sql, values).fetch(&mut **conn);
                while let Some(row) = rows.try_next().await? {
                    mapped.push(map(&Fields::Postgres(row))?);
                }
            }
        }
        Ok(mapped)
    }

    /// Runs a query for one row of one integer.
    pub(super) async fn fetch_int(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<i64, sqlx::Error> {
        let found = self.fetch(sql, values, |row| row.int(0)).await?;
        found.first().copied().ok_or(sqlx::Error::RowNotFound)
    }
}

/// A reader's connection, which goes back to its pool when it is dropped.
pub(super) enum Reader {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Reader {
    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite(conn) => Session::Sqlite(conn),
            Self::Postgres(conn) => Session::Postgres(conn),
        }
    }
}

/// One row of a result, read by position.
pub(super) enum Fields {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! field {
    ($self:expr, $place:expr) => {
        match $self {
            Fields::Sqlite(row) => row.try_get($place),
            Fields::Postgres(row) => row.try_get($place),
        }
    };
}

impl Fields {
    pub(super) fn int(&self, place: usize) -> Result<i64, sqlx::Error> {
        field!(self, place)
    }

    pub(super) fn maybe_int(&self, place: usize) -> Result<Option<i64>, sqlx::Error> {
        field!(self, place)
    }

    /// An integer that says yes or no.
    pub(super) fn flag(&self, place: usize) -> Result<bool, sqlx::Error> {
        Ok(self.int(place)? != 0)
    }

    pub(super) fn instant(&self, place: usize) -> Result<OffsetDateTime, sqlx::Error> {
        time_text::from_micros(self.int(place)?).ok_or_else(|| corrupt("a year beyond 9999"))
    }

    pub(super) fn maybe_instant(
        &self,
        place: usize,
    ) -> Result<Option<OffsetDateTime>, sqlx::Error> {
        let there = self.maybe_int(place)?.is_some();
        there.then(|| self.instant(place)).transpose()
    }

    pub(super) fn text(&self, place: usize) -> Result<&str, sqlx::Error> {
        field!(self, place)
    }

    pub(super) fn maybe_text(&self, place: usize) -> Result<Option<&str>, sqlx::Error> {
        field!(self, place)
    }

    pub(super) fn bytes(&self, place: usize) -> Result<&[u8], sqlx::Error> {
        field!(self, place)
    }

    /// Text in one of the domain's forms.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        place: usize,
    ) -> Result<T, sqlx::Error> {
        self.text(place)?.parse().map_err(corrupt)
    }

    /// The same, where it may be absent.
    pub(super) fn maybe_parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        place: usize,
    ) -> Result<Option<T>, sqlx::Error> {
        let text = self.maybe_text(place)?;
        text.map(|text| text.parse().map_err(corrupt)).transpose()
    }
}
