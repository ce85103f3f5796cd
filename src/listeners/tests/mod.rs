//! The listeners and the workers behind them, over real sockets.
