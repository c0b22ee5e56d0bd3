; virtio-net by its modern registers (virtio 1.2, 4.1.4), which transitional devices have, too. No offloads; split rings.

VIRTIO_HEADER   equ 12                  ; before each frame (5.1.6)
VIRTIO_RX       equ RINGS               ; a ring: descriptors, at 0x100 those for the device, at 0x200 those it used
VIRTIO_TX       equ RINGS + 0x300
VIRTIO_AVAIL    equ 0x100
VIRTIO_USED     equ 0x200

virtio_start:
        call virtio_find_registers
        mov edi, [virtio_common]
        test edi, edi
        jz .cannot
        mov byte [edi + 20], 0          ; reset
.reset: cmp byte [edi + 20], 0
        jne .reset
        mov byte [edi + 20], 1 | 2      ; acknowledge, driver
        mov dword [edi], 0
        mov eax, [edi + 4]
        and eax, 1 << 5 | 1 << 16       ; MAC, status
        mov dword [edi + 8], 0
        mov [edi + 12], eax
        mov dword [edi + 8], 1
        mov dword [edi + 12], 1         ; version 1
        mov byte [edi + 20], 1 | 2 | 8  ; features OK
        test byte [edi + 20], 8
        jz .cannot
        mov ebx, [virtio_device]
        mov eax, [ebx]
        mov [mac], eax
        mov ax, [ebx + 4]
        mov [mac + 4], ax

        xor ax, ax                      ; queue 0 receives
        mov si, VIRTIO_RX
        mov ebx, RECEIVED
        call virtio_start_queue
        mov [virtio_notify_rx], eax
        mov si, VIRTIO_RX
        mov cx, RING
.rx:    mov dword [si + 8], 1 << BUFFER_SHIFT
        mov word [si + 12], 2           ; the device writes
        add si, 16
        loop .rx
        mov word [VIRTIO_RX + VIRTIO_AVAIL + 2], RING

        mov ax, 1                       ; queue 1 sends
        mov si, VIRTIO_TX
        mov ebx, SENT
        call virtio_start_queue
        mov [virtio_notify_tx], eax
        mov word [VIRTIO_TX + VIRTIO_AVAIL], 1          ; no interrupts

        mov byte [edi + 20], 1 | 2 | 4 | 8              ; driver OK
        mov ebx, [virtio_notify_rx]
        mov word [ebx], 0
        clc
        ret
.cannot:
        stc
        ret

; The virtio capabilities (4.1.4): where common, notify, interrupt and device registers are, in this order. Those that are
; out of reach stay 0.
virtio_find_registers:
        mov al, 0x34
        call nic_read
.capability:
        and al, 0xFC
        jz .end
        mov bl, al
        call nic_read                   ; identifier, next, length, type
        push eax
        cmp al, 9                       ; vendor-specific
        jne .next
        shr eax, 24
        cmp al, 4
        ja .next
        movzx si, al
        dec si
        js .next
        shl si, 2
        cmp dword [virtio_registers + si], 0
        jne .next                       ; the first of a type is the one to use
        mov al, bl
        add al, 4
        call nic_read                   ; AL: which base address register
        call nic_bar
        jc .next
        mov ecx, eax
        mov al, bl
        add al, 8
        call nic_read
        add eax, ecx
        mov [virtio_registers + si], eax
        cmp si, 4
        jne .next
        mov al, bl
        add al, 16
        call nic_read
        mov [virtio_multiplier], eax
.next:  pop eax
        mov al, ah
        jmp .capability
.end:   ret

; EDI: common registers, AX: queue, SI: its ring, EBX: its buffers; EAX: the address to notify the device at.
virtio_start_queue:
        mov [edi + 22], ax
        mov word [edi + 24], RING
        movzx eax, si
        mov [edi + 32], eax
        mov dword [edi + 36], 0
        add eax, VIRTIO_AVAIL
        mov [edi + 40], eax
        mov dword [edi + 44], 0
        add eax, VIRTIO_USED - VIRTIO_AVAIL
        mov [edi + 48], eax
        mov dword [edi + 52], 0
        mov bp, si
        xor cx, cx
.next:  mov [si], ebx                   ; descriptor n is buffer n, and entry n for the device is descriptor n
        mov [bp + VIRTIO_AVAIL + 4], cx
        add ebx, 1 << BUFFER_SHIFT
        add si, 16
        add bp, 2
        inc cx
        cmp cx, RING
        jb .next
        mov word [edi + 28], 1          ; enable
        movzx eax, word [edi + 30]
        mul dword [virtio_multiplier]
        add eax, [virtio_notify]
        ret

virtio_serve:
        mov ebx, [virtio_interrupt]
        mov al, [ebx]                   ; reading acknowledges
.frame: mov bx, [virtio_seen]
        cmp bx, [VIRTIO_RX + VIRTIO_USED + 2]
        je .end
        and bx, RING - 1
        shl bx, 3
        mov esi, [VIRTIO_RX + VIRTIO_USED + 4 + bx]     ; number of the descriptor
        mov ecx, [VIRTIO_RX + VIRTIO_USED + 8 + bx]     ; bytes, with the header
        inc word [virtio_seen]
        push si
        shl esi, BUFFER_SHIFT
        add esi, RECEIVED + VIRTIO_HEADER
        sub ecx, VIRTIO_HEADER
        call frame_received
        pop si
        mov bx, [VIRTIO_RX + VIRTIO_AVAIL + 2]
        and bx, RING - 1
        add bx, bx
        mov [VIRTIO_RX + VIRTIO_AVAIL + 4 + bx], si     ; the buffer is free again
        inc word [VIRTIO_RX + VIRTIO_AVAIL + 2]
        mov ebx, [virtio_notify_rx]
        mov word [ebx], 0
        jmp .frame
.end:   ret

virtio_send:
        mov bx, [VIRTIO_TX + VIRTIO_AVAIL + 2]
        mov ax, bx
        sub ax, [VIRTIO_TX + VIRTIO_USED + 2]
        cmp ax, RING
        jae .full                       ; dropped, as any network may
        and bx, RING - 1
        movzx edi, bx
        shl edi, BUFFER_SHIFT
        add edi, SENT
        xor eax, eax
        mov [edi], eax
        mov [edi + 4], eax
        mov [edi + 8], eax
        add edi, VIRTIO_HEADER
        shl bx, 4
        mov [VIRTIO_TX + bx + 8], ecx
        add dword [VIRTIO_TX + bx + 8], VIRTIO_HEADER
        a32 rep movsb
        inc word [VIRTIO_TX + VIRTIO_AVAIL + 2]
        mov ebx, [virtio_notify_tx]
        mov word [ebx], 1
.full:  ret

virtio_link:
        mov ebx, [virtio_device]
        mov al, [ebx + 6]
        and al, 1
        ret

        align 4
virtio_registers:
virtio_common:          dd 0
virtio_notify:          dd 0
virtio_interrupt:       dd 0
virtio_device:          dd 0
virtio_multiplier:      dd 0
virtio_notify_rx:       dd 0
virtio_notify_tx:       dd 0
virtio_seen:            dw 0
