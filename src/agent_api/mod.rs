//! agent_api
