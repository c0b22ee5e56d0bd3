; Intel 82540EM (e1000) and 82574L (e1000e) with legacy descriptors, which both have (82574 data sheet, 7.1.4 and 7.2.10.1).

E1000_RX        equ RINGS
E1000_TX        equ RINGS + 0x300

E1000_CTRL      equ 0x0000
E1000_STATUS    equ 0x0008
E1000_ICR       equ 0x00C0
E1000_IMS       equ 0x00D0
E1000_IMC       equ 0x00D8
E1000_RCTL      equ 0x0100
E1000_TCTL      equ 0x0400
E1000_RDBAL     equ 0x2800              ; then RDBAH, RDLEN; RDH, RDT at 0x10, 0x18
E1000_RDT       equ 0x2818
E1000_TDBAL     equ 0x3800              ; the same for sending
E1000_TDT       equ 0x3818
E1000_RAL0      equ 0x5400              ; the MAC, from the EEPROM

e1000_start:
        xor al, al
        call nic_bar
        jc .end
        mov [e1000_registers], eax
        mov edi, eax
        mov dword [edi + E1000_IMC], -1
        mov dword [edi + E1000_RCTL], 0
        mov dword [edi + E1000_TCTL], 0
        or dword [edi + E1000_CTRL], 1 << 6             ; set link up
        mov eax, [edi + E1000_RAL0]
        mov [mac], eax
        mov eax, [edi + E1000_RAL0 + 4]
        mov [mac + 4], ax

        mov ebx, RECEIVED
        mov si, E1000_RX
        call e1000_make_ring
        mov ebx, SENT
        mov si, E1000_TX
        call e1000_make_ring
        mov cx, RING
        mov si, E1000_TX
.tx:    mov byte [si + 12], 1           ; done, so that it is free
        add si, 16
        loop .tx

        lea ebx, [edi + E1000_RDBAL]
        mov eax, E1000_RX
        call e1000_start_ring
        lea ebx, [edi + E1000_TDBAL]
        mov eax, E1000_TX
        call e1000_start_ring
        mov dword [edi + E1000_RCTL], 1 << 1 | 1 << 15 | 1 << 26        ; on; broadcasts; without checksum; 2 KiB
        mov dword [edi + E1000_TCTL], 1 << 1 | 1 << 3 | 0x0F << 4 | 0x40 << 12  ; on; pads short frames
        mov dword [edi + E1000_RDT], RING - 1
        mov dword [edi + E1000_IMS], 1 << 4 | 1 << 6 | 1 << 7           ; frames received, overrun
        clc
.end:   ret

; SI: descriptors, EBX: their buffers.
e1000_make_ring:
        mov cx, RING
.next:  mov [si], ebx
        add si, 16
        add ebx, 1 << BUFFER_SHIFT
        loop .next
        ret

; EBX: registers of a ring, EAX: its descriptors.
e1000_start_ring:
        mov [ebx], eax
        mov dword [ebx + 4], 0
        mov dword [ebx + 8], RING * 16
        mov dword [ebx + 0x10], 0
        mov dword [ebx + 0x18], 0
        ret

e1000_serve:
        mov edi, [e1000_registers]
        mov eax, [edi + E1000_ICR]      ; reading acknowledges
.frame: mov bx, [e1000_rx]
        shl bx, 4
        test byte [E1000_RX + bx + 12], 1               ; done
        jz .end
        movzx esi, word [e1000_rx]
        shl esi, BUFFER_SHIFT
        add esi, RECEIVED
        movzx ecx, word [E1000_RX + bx + 8]
        push bx
        call frame_received
        pop bx
        mov byte [E1000_RX + bx + 12], 0
        mov edi, [e1000_registers]
        movzx eax, word [e1000_rx]
        mov [edi + E1000_RDT], eax      ; the card may use all up to this one
        inc ax
        and ax, RING - 1
        mov [e1000_rx], ax
        jmp .frame
.end:   ret

e1000_send:
        mov bx, [e1000_tx]
        shl bx, 4
        test byte [E1000_TX + bx + 12], 1
        jz .full                        ; dropped, as any network may
        movzx edi, word [e1000_tx]
        shl edi, BUFFER_SHIFT
        add edi, SENT
        mov [E1000_TX + bx + 8], ecx                    ; length; no checksum offload, no command yet
        mov byte [E1000_TX + bx + 11], 1 | 2 | 8        ; end of the frame, add the checksum, report
        mov byte [E1000_TX + bx + 12], 0
        a32 rep movsb
        movzx eax, word [e1000_tx]
        inc ax
        and ax, RING - 1
        mov [e1000_tx], ax
        mov edi, [e1000_registers]
        mov [edi + E1000_TDT], eax
.full:  ret

e1000_link:
        mov edi, [e1000_registers]
        mov eax, [edi + E1000_STATUS]
        shr al, 1
        and al, 1
        ret

        align 4
e1000_registers:        dd 0
e1000_rx:               dw 0
e1000_tx:               dw 0
