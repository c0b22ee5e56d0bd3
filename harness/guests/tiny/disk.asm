; The record is one sector of the boot disk, read and written by the BIOS.
;
; SeaBIOS does not flush. Its driver for virtio-blk does not negotiate a write cache, so the device writes through (virtio
; 1.2, 5.2.6.2); on other disks a write is as durable as QEMU's `cache` option makes it.

; Carry: it failed, and `record_status` is the BIOS's reason (RBIL, table 00234).
record_read:
        mov ah, 0x42
        jmp record_transfer
record_write:
        mov ah, 0x43
record_transfer:
        push si
        xor al, al                      ; without verification
        mov dl, [boot_drive]
        mov si, .packet
        int 0x13
        mov [record_status], ah
        pushf
        call flat
        popf
        pop si
        sti
        ret
        align 4
.packet:
        dw 16, 1, RECORD, 0
        dq RECORD_SECTOR
