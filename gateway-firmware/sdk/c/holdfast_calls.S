/*
 * The calls, as functions: each enters its veneer in the gateway page, which is at 0x10010400 and never moves, 8 bytes a slot.
 *
 * With interrupts off. A call takes them off itself, but one that comes between the gate and that leaves the call where only the
 * thread that made it may go on: were threads switched there, and the other made a call too, each would get what is the other's.
 * Whoever runs threads without privilege, which cannot do this, lets one of them call at a time.
 */
    .syntax unified
    .thumb
    .arch armv8-m.main

    .set GATEWAY_AT, 0x10010400
    .set SLOT_BYTES, 8

    .macro call name, slot
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
\name:
    ldr ip, =(GATEWAY_AT + SLOT_BYTES * \slot) + 1
    b.w holdfast_call
    .ltorg
    .size \name, . - \name
    .endm

    /* Arguments and answer are where the procedure call standard has them, at the gate as here. */
    .section .text.holdfast_call, "ax", %progbits
    .global holdfast_call
    .type holdfast_call, %function
    .thumb_func
holdfast_call:
    push {r4, lr}
    mrs r4, primask
    cpsid i
    blx ip
    msr primask, r4
    pop {r4, pc}
    .size holdfast_call, . - holdfast_call

    call mvEnableFastInterrupt, 0
    call mvWriteChannelStream, 1
    call mvGetMicroseconds, 2
    call mvGetSysClk, 3
    call mvDisableAllFastInterrupts, 4
    call mvGetDeviceId, 5
    call mvWriteChannel, 6
    call mvGetWallTime, 7
    call mvRequestNetwork, 8
    call mvGetChannelClosureReason, 9
    call mvCloseNotifications, 10
    call mvSetFastInterrupt, 11
    call mvTemporaryStructTest, 12
    call mvDisableFastInterrupt, 13
    call mvReadChannelComplete, 14
    call mvClearFastInterrupt, 15
    call mvSetupNotifications, 16
    call mvGetPClk1, 17
    call mvGetPClk2, 18
    call mvEnableAllFastInterrupts, 19
    call mvPeriphPoke32, 21
    call mvReadChannel, 22
    call mvGetHClk, 23
    call mvOpenChannel, 24
    call mvGetNetworkReasons, 25
    call mvReleaseNetwork, 26
    call mvNoOp, 27
    call mvTempTriggerNotification, 28
    call mvGetNetworkStatus, 29
    call mvPeriphPeek32, 30
    call mvCloseChannel, 31
    call mvSendHttpRequest, 32
    call mvReadHttpResponseBody, 33
    call mvReadHttpResponseHeader, 34
    call mvReadHttpResponseData, 35
    call mvServerLoggingInit, 36
    call mvServerLog, 37
    call mvSendConfigFetchRequest, 38
    call mvReadConfigFetchResponseData, 39
    call mvReadConfigResponseItem, 40
    call mvMqttReadUnsubscribeResponse, 41
    call mvMqttAcknowledgeMessage, 42
    call mvMqttReadDisconnectResponse, 43
    call mvMqttRequestDisconnect, 44
    call mvMqttReadConnectResponse, 45
    call mvMqttRequestPublish, 46
    call mvMqttRequestSubscribe, 47
    call mvMqttReadPublishResponse, 48
    call mvMqttReceiveLostMessageInfo, 49
    call mvMqttReceiveMessage, 50
    call mvMqttGetNextReadableDataType, 51
    call mvMqttRequestUnsubscribe, 52
    call mvMqttRequestConnect, 53
    call mvMqttReadSubscribeResponse, 54
    call mvTestingComplete, 55
    call mvTestLog, 56
    call mvTestLoggingInit, 57
    call mvPowerSave, 58
    call mvSystemLedEnable, 59
    call mvOpenSystemNotification, 60
    call mvCloseSystemNotification, 61
    call mvDeepSleep, 62
    call mvGetWakeReason, 63
    call mvRestart, 64
    call mvExternalFlashClose, 65
    call mvExternalFlashGetInfo, 66
    call mvExternalFlashWriteBlocking, 67
    call mvExternalFlashOpen, 68
    call mvExternalFlashEraseBlocking, 69
    call mvExternalFlashReadBlocking, 70
    call mvSetWifiConfig, 72
    call mvGetWifiConfig, 73
    call hfHealthy, 128
    call hfTelemetryPublish, 129
