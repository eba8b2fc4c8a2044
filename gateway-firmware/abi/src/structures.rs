//! The ancestor's structures as they lie in an application's memory: C layout, 32-bit Arm.
//!
//! A pointer is a number here: nothing of an application's is ever followed before it was checked and copied. Structures
//! with a `version` are those of version 1, the only one there is; the ancestor's union has one member.

/// An address in the application's memory.
pub type Address = u32;

macro_rules! structures {
    ($($name:ident { $($field:ident: $kind:ty),* $(,)? } = $bytes:literal;)*) => {
        $(
            #[doc = concat!("`Mv", stringify!($name), "`.")]
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
            #[repr(C)]
            pub struct $name {
                $(#[doc = concat!("`", stringify!($field), "`.")] pub $field: $kind,)*
            }
            // Where the next field of a caller's compiler would be.
            const _: () = assert!(size_of::<$name>() == $bytes);
        )*
    };
}

structures! {
    Notification { microseconds: u64, event_type: u32, tag: u32 } = 16;
    NotificationSetup { irq: u32, buffer: Address, buffer_size: u32 } = 12;
    RequestNetworkParams { version: u32, notification_handle: u32, notification_tag: u32 } = 12;
    SizedString { data: Address, length: u32 } = 8;
    OpenChannelParams {
        version: u32,
        notification_handle: u32,
        notification_tag: u32,
        network_handle: u32,
        receive_buffer: Address,
        receive_buffer_len: u32,
        send_buffer: Address,
        send_buffer_len: u32,
        channel_type: u32,
        endpoint: SizedString,
    } = 44;
    HttpHeader { length: u32, data: Address } = 8;
    HttpRequest {
        method: SizedString,
        url: SizedString,
        num_headers: u32,
        headers: Address,
        body: SizedString,
        timeout_ms: u32,
    } = 36;
    HttpResponseData { result: u32, status_code: u32, num_headers: u32, body_length: u32 } = 16;
    ConfigKeyToFetch { scope: u32, store: u32, key: SizedString } = 16;
    ConfigKeyFetchParams { num_items: u32, keys_to_fetch: Address } = 8;
    ConfigResponseData { result: u32, num_items: u32 } = 8;
    SizedStringBuffer { data: Address, size: u32, length: Address } = 12;
    ConfigResponseReadItemParams { item_index: u32, result: Address, buf: SizedStringBuffer } = 20;
    UsernamePassword { username: SizedString, password: SizedString } = 16;
    MqttAuthentication { method: u32, username_password: UsernamePassword } = 20;
    TlsCertificateChain { num_certs: u32, certs: Address } = 8;
    OwnTlsCertificateChain { chain: TlsCertificateChain, key: SizedString } = 16;
    TlsCredentials { cacert: TlsCertificateChain, clientcert: OwnTlsCertificateChain } = 24;
    MqttWill { topic: SizedString, payload: SizedString, qos: u32, retain: u8 } = 24;
    MqttConnectRequest {
        protocol_version: u32,
        host: SizedString,
        port: u16,
        clientid: SizedString,
        authentication: MqttAuthentication,
        tls_credentials: Address,
        keepalive: u32,
        clean_start: u8,
        will: Address,
    } = 60;
    MqttConnectResponse { request_state: u32, reason_code: u32 } = 8;
    MqttSubscription { topic: SizedString, desired_qos: u32, nl: u32, rap: u32, rh: u32 } = 24;
    MqttSubscribeRequest { correlation_id: u32, subscriptions: Address, num_subscriptions: u32 } = 12;
    MqttSubscribeResponse {
        request_state: Address,
        correlation_id: Address,
        reason_codes: Address,
        reason_codes_size: u32,
        reason_codes_len: Address,
    } = 20;
    MqttUnsubscribeRequest { correlation_id: u32, topics: Address, num_topics: u32 } = 12;
    MqttUnsubscribeResponse {
        request_state: Address,
        correlation_id: Address,
        reason_codes: Address,
        reason_codes_size: u32,
        reason_codes_len: Address,
    } = 20;
    MqttPublishRequest {
        correlation_id: u32,
        topic: SizedString,
        payload: SizedString,
        desired_qos: u32,
        retain: u32,
    } = 28;
    MqttPublishResponse { request_state: u32, correlation_id: u32, reason_code: u32 } = 12;
    MqttMessage {
        correlation_id: Address,
        topic: SizedStringBuffer,
        payload: SizedStringBuffer,
        qos: Address,
        retain: Address,
    } = 36;
    MqttLostMessageInfo { reason: Address, topic: SizedStringBuffer, message_len: Address } = 20;
    MqttDisconnectResponse { request_state: u32, disconnect_code: u32 } = 8;
    OpenSystemNotificationParams {
        notification_handle: u32,
        notification_tag: u32,
        notification_source: u32,
    } = 12;
    ExternalFlashInfo { version: u32, chip_id: u32, size: u32, num_handles: u32 } = 16;
    WifiConfig { version: u32, config_mode: u32, wifi_ssid: SizedString, wifi_password: SizedString } = 24;
    WifiConfigOut { version: u32, ssid: SizedStringBuffer, has_encryption: Address } = 20;
}
