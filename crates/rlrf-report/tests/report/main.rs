//! What a reader gets to see: the page and the terminal's table.

mod fixture;
mod grid;
mod markup;
mod page;
mod table;
