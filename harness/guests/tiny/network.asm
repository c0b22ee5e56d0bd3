; One network card, ARP, ping and TCP (`tcp.asm`). Frames are answered in the memory in which they were received.

RING            equ 16                  ; descriptors, and buffers, of each direction
BUFFER_SHIFT    equ 11                  ; 2 KiB each
RECEIVED        equ 0x10000
SENT            equ RECEIVED + (RING << BUFFER_SHIFT)
SHORTEST        equ 60                  ; Ethernet, without the checksum

; A driver: start (carry: it cannot), serve (acknowledge the interrupt, call frame_received for each frame), send (ESI:
; frame, ECX: bytes), link (AL: 1 is up), and its name.
%macro driver_row 4
        dw %3, %2, %4_start, %4_serve, %4_send, %4_link, %1
%endmacro

        align 4
drivers:
        driver_row name_virtio,  0x1041, 0x1AF4, virtio
        driver_row name_virtio,  0x1000, 0x1AF4, virtio         ; transitional: has the same registers, too
        driver_row name_e1000,   0x100E, 0x8086, e1000
        driver_row name_e1000e,  0x10D3, 0x8086, e1000
        driver_row name_rtl8139, 0x8139, 0x10EC, rtl8139
drivers_end:
DRIVER_BYTES    equ 14
DRIVER_START    equ 4
DRIVER_SERVE    equ 6
DRIVER_SEND     equ 8
DRIVER_LINK     equ 10
DRIVER_NAME     equ 12
name_virtio:    db "virtio-net", 0
name_e1000:     db "e1000", 0
name_e1000e:    db "e1000e", 0
name_rtl8139:   db "rtl8139", 0

nic_start:
        mov di, RINGS
        mov cx, RECORD - RINGS
        xor al, al
        rep stosb
        call nic_find
        mov bx, [driver]
        test bx, bx
        jz .done
        call nic_enable
        call [bx + DRIVER_START]
        jc .unusable
        call find_address
        mov al, 0x3C
        call nic_read                   ; AL: the line that the BIOS chose
        dec al
        cmp al, 15
        jae .done                       ; 0 or 255, none: the card is served with each count
        inc al
        movzx bx, al
        bts [nic_line], bx
        add bx, 8
        cmp bx, 16
        jb .vector
        add bx, 0x70 - 16
.vector:
        shl bx, 2
        mov word [bx], nic_interrupt
        mov word [bx + 2], 0
.done:  ret
.unusable:
        mov byte [nic_unusable], 1
        ret

nic_serve:
        mov bx, [driver]
        test bx, bx
        jz .done
        cmp byte [nic_unusable], 0
        jne .done
        call [bx + DRIVER_SERVE]
        cli
        mov bx, [nic_line]
        not bx
        in al, 0xA1
        and al, bh
        out 0xA1, al
        in al, 0x21
        and al, bl
        out 0x21, al
        sti
.done:  ret

; The row of the parameters with this card's MAC, or with zeros.
find_address:
        mov bx, parameters.rows
        movzx cx, byte [parameters.addresses]
        jcxz .done
.row:   mov eax, [bx]
        mov dx, [bx + 4]
        cmp eax, [mac]
        jne .any
        cmp dx, [mac + 4]
        je .found
.any:   or eax, eax
        jnz .next
        or dx, dx
        jz .found
.next:  add bx, ROW_BYTES
        loop .row
.done:  ret
.found: mov eax, [bx + 6]
        mov [address], eax
        ret

; ESI: an Ethernet frame, ECX: its length. All registers may change.
frame_received:
        inc dword [received]
        cmp dword [address], 0
        je .ignored
        cmp ecx, 14 + 28
        jb .ignored
        cmp word [esi + 12], 0x0608     ; numbers of the network have their high byte first: this is 0x0806
        je .arp
        cmp word [esi + 12], 0x0008     ; 0x0800
        je .ipv4
.ignored:
        ret

.arp:   ; RFC 826: Ethernet (1), IPv4 (0x0800), addresses of 6 and 4 bytes, a request (1)
        cmp dword [esi + 14], 0x00080100
        jne .ignored
        cmp dword [esi + 18], 0x01000406
        jne .ignored
        mov eax, [address]
        cmp eax, [esi + 38]
        jne .ignored
        mov byte [esi + 21], 2          ; a reply
        mov edx, [esi + 28]             ; the sender becomes the target
        mov [esi + 38], edx
        mov edx, [esi + 22]
        mov [esi + 32], edx
        mov dx, [esi + 26]
        mov [esi + 36], dx
        mov [esi + 28], eax
        mov eax, [mac]
        mov [esi + 22], eax
        mov ax, [mac + 4]
        mov [esi + 26], ax
        mov ecx, 14 + 28
        jmp .answer

.ipv4:  ; RFC 791: to this address, not a fragment, all of it is there
        movzx ebx, byte [esi + 14]
        mov al, bl
        shr al, 4
        cmp al, 4
        jne .ignored
        and ebx, 15
        shl ebx, 2                      ; EBX: bytes of the header
        cmp ebx, 20
        jb .ignored
        test word [esi + 20], 0xFF3F    ; more fragments, or an offset
        jnz .ignored
        mov eax, [address]
        cmp eax, [esi + 30]
        jne .ignored
        movzx eax, word [esi + 16]
        xchg al, ah
        add eax, 14                     ; EAX: bytes of the frame, without padding
        cmp eax, ecx
        ja .ignored
        mov ecx, eax
        cmp byte [esi + 23], 6
        je tcp_received
        cmp byte [esi + 23], 1          ; ICMP (RFC 792): an echo request
        jne .ignored
        lea eax, [ebx + 14 + 8]
        cmp ecx, eax
        jb .ignored
        cmp word [esi + ebx + 14], 8    ; type 8, code 0
        jne .ignored
        mov byte [esi + ebx + 14], 0    ; a reply, so the checksum grows by 0x0800 (RFC 1624)
        add word [esi + ebx + 16], 8
        adc word [esi + ebx + 16], 0
        mov eax, [esi + 26]             ; exchanging addresses does not change the header's checksum
        xchg eax, [esi + 30]
        mov [esi + 26], eax

.answer:
        mov eax, [esi + 6]              ; to the sender
        mov [esi], eax
        mov ax, [esi + 10]
        mov [esi + 4], ax
        mov eax, [mac]
        mov [esi + 6], eax
        mov ax, [mac + 4]
        mov [esi + 10], ax
        cmp ecx, SHORTEST
        jae .send
        mov ecx, SHORTEST
.send:  inc dword [answered]
        mov bx, [driver]
        jmp [bx + DRIVER_SEND]

print_nic:
        say " nic="
        mov bx, [driver]
        test bx, bx
        jz .none
        mov si, [bx + DRIVER_NAME]
        call print_text
        cmp byte [nic_unusable], 0
        jne .unusable
        say " mac="
        mov si, mac
        mov cx, 6
.mac:   lodsb
        call print_hex
        cmp cx, 1
        je .mac_end
        mov al, ':'
        call print_char
.mac_end:
        loop .mac
        say " address="
        mov si, address
        mov cx, 4
.address:
        xor eax, eax
        lodsb
        call print_decimal
        cmp cx, 1
        je .address_end
        mov al, '.'
        call print_char
.address_end:
        loop .address
        say " link="
        mov bx, [driver]
        call [bx + DRIVER_LINK]
        cmp al, 1
        je .up
        say "down"
        jmp .counts
.up:    say "up"
.counts:
        say " received="
        mov eax, [received]
        call print_decimal
        say " answered="
        mov eax, [answered]
        jmp print_decimal
.none:  say "none"
        ret
.unusable:
        say " link=unusable"
        ret

        align 4
received:       dd 0
answered:       dd 0
address:        dd 0
driver:         dw 0
nic_line:       dw 0                    ; the bit of the card's interrupt line
mac:            times 6 db 0
nic_pending:    db 0
nic_unusable:   db 0
