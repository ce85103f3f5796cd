//! Real processes and real clients, one behaviour a file: t1x clients, t2x takeover and credentials, t3x faults, t4x bad
//! input, t5x listeners. Each test starts a cluster of its own; they run one after another, because two clusters on a
//! small machine would measure the machine.

mod clients;
mod harness;
mod t10_mosquitto;
mod t11_mqttjs;
mod t12_paho;
mod t13_own_client;
mod t14_retained;
mod t15_client_matrix;
mod t15_system_topics;
mod t16_examples;
mod t20_takeover;
mod t21_revocation;
mod t22_sessions;
mod t23_shared_subscriptions;
mod t30_kill_each;
mod t31_leader_killed;
mod t32_restart;
mod t33_removed_node;
mod t40_bad_packets;
mod t41_bad_start;
mod t50_listeners;
