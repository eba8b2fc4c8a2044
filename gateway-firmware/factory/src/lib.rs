//! What a factory does to a board.
