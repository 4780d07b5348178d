//! The production driver: edge-triggered epoll.
