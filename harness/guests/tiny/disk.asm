; The record: one sector of the boot disk, read and written by the BIOS.
;
; SeaBIOS does not flush. Its driver for virtio-blk does not negotiate a write cache, so the device writes through (virtio
; 1.2, 5.2.6.2); on other disks a write is as durable as QEMU's `cache` option makes it.

record          equ RECORD              ; the layout is that of `read_record` in harness/guests/tiny_guest.py
record.nonce    equ RECORD + 8
record.word     equ RECORD + 40
record.boots    equ RECORD + 72
record.writes   equ RECORD + 76

; Count this start in the record. A disk without a record of this nonce gets one.
record_start:
        call record_read
        jc .done
        mov si, .magic
        mov di, record
        mov cx, 8
        repe cmpsb
        jne .new
        mov si, parameters.nonce
        mov cx, NAME_BYTES
        repe cmpsb
        je .known
.new:   mov di, record
        mov cx, 512
        xor al, al
        rep stosb
        mov si, .magic
        mov di, record
        mov cx, 8
        rep movsb
        mov si, parameters.nonce
        mov cx, NAME_BYTES
        rep movsb
.known: inc dword [record.boots]
        call record_write
.done:  ret
.magic: db "BPREC001"

; SI: a word of printable characters, which becomes that of the record. Carry: it is empty, too long, or not a word.
set_word:
        mov bx, si
        mov cx, NAME_BYTES
.check: mov al, [bx]
        test al, al
        jz .end
        inc bx
        cmp al, '!'
        jb .bad
        cmp al, '~'
        ja .bad
        loop .check
.bad:   stc
        ret
.end:   cmp bx, si
        je .bad
        mov di, record.word
        mov bx, cx                      ; NULs that fill the field
        sub cx, NAME_BYTES
        neg cx
        rep movsb
        mov cx, bx
        xor al, al
        rep stosb
        clc
        ret

; Carry: it failed, and `disk_status` is the BIOS's reason (RBIL, table 00234).
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
        mov [disk_status], ah
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

disk_status:    db 0
