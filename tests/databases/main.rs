//! Dumps and copies of databases.
#![allow(clippy::unwrap_used)]

mod containers;
mod database_mysql;
mod database_mysql_whole;
mod database_postgresql;
mod database_postgresql_whole;
mod database_sqlite;
mod databases;
mod postgres;
mod sqlite_nights;
