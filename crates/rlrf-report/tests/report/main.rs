//! What a reader gets to see: the page and the terminal's table.

mod fixture;
mod markup;
mod page;
mod table;
