; Realtek 8139 by its ports (RTL8139C data sheet, 5). It receives into one buffer, one frame behind the other.

RTL_ID          equ 0x00
RTL_TSD         equ 0x10                ; status of sending, four times
RTL_TSAD        equ 0x20                ; address of the frame, four times
RTL_RBSTART     equ 0x30
RTL_COMMAND     equ 0x37
RTL_CAPR        equ 0x38                ; what was read, minus 16
RTL_IMR         equ 0x3C
RTL_ISR         equ 0x3E
RTL_RCR         equ 0x44
RTL_CONFIG1     equ 0x52
RTL_MSR         equ 0x58
RTL_BUFFER      equ 8192                ; bytes before it begins again; a frame that does not fit ends behind them

%macro rtl_port 1
        mov dx, [rtl8139_port]
        add dx, %1
%endmacro

rtl8139_start:
        xor al, al
        call nic_bar
        jc .end
        mov [rtl8139_port], ax
        rtl_port RTL_CONFIG1
        xor al, al                      ; power on
        out dx, al
        rtl_port RTL_COMMAND
        mov al, 0x10                    ; reset
        out dx, al
.reset: in al, dx
        test al, 0x10
        jnz .reset
        rtl_port RTL_ID
        in eax, dx
        mov [mac], eax
        add dx, 4
        in eax, dx
        mov [mac + 4], ax
        rtl_port RTL_RBSTART
        mov eax, RECEIVED
        out dx, eax
        rtl_port RTL_COMMAND
        mov al, 0x0C                    ; receive, send
        out dx, al
        rtl_port RTL_RCR
        mov eax, 1 << 7 | 1 << 3 | 1 << 1       ; do not split frames; broadcasts; own address
        out dx, eax
        rtl_port RTL_IMR
        mov ax, 1 << 0 | 1 << 4         ; received, buffer full
        out dx, ax
        clc
.end:   ret

rtl8139_serve:
        rtl_port RTL_ISR
        in ax, dx
        out dx, ax                      ; ones acknowledge
.frame: rtl_port RTL_COMMAND
        in al, dx
        test al, 1                      ; buffer empty
        jnz .end
        movzx esi, word [rtl8139_read]
        add esi, RECEIVED
        movzx ecx, word [esi + 2]       ; bytes, with the checksum
        add esi, 4
        push cx
        sub ecx, 4
        call frame_received
        pop cx
        mov ax, [rtl8139_read]
        add ax, cx
        add ax, 4 + 3
        and ax, ~3 & (RTL_BUFFER - 1)
        mov [rtl8139_read], ax
        sub ax, 16
        rtl_port RTL_CAPR
        out dx, ax
        jmp .frame
.end:   ret

rtl8139_send:
        movzx bx, byte [rtl8139_next]
        shl bx, 2
        rtl_port RTL_TSD
        add dx, bx
        in eax, dx
        test eax, 1 << 13               ; the card has the frame, or never had one
        jz .full                        ; dropped, as any network may
        movzx edi, byte [rtl8139_next]
        shl edi, BUFFER_SHIFT
        add edi, SENT
        mov eax, edi
        push ecx
        a32 rep movsb
        rtl_port RTL_TSAD
        add dx, bx
        out dx, eax
        pop eax
        rtl_port RTL_TSD
        add dx, bx
        out dx, eax                     ; the length; this sends
        inc byte [rtl8139_next]
        and byte [rtl8139_next], 3
.full:  ret

rtl8139_link:
        rtl_port RTL_MSR
        in al, dx
        shr al, 2                       ; 1: no link
        not al
        and al, 1
        ret

        align 4
rtl8139_port:   dw 0
rtl8139_read:   dw 0
rtl8139_next:   db 0
