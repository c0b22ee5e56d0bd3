; PCI configuration space by the ports 0xCF8 and 0xCFC. An address is bit 31, bus << 16, device << 11, function << 8, register.

; EAX: address; EAX: the 32 bits there.
pci_read:
        push dx
        mov dx, 0xCF8
        and al, 0xFC
        out dx, eax
        mov dx, 0xCFC
        in eax, dx
        pop dx
        ret

; AL: register of the network card; EAX: its 32 bits.
nic_read:
        push ebx
        mov bl, al
        mov eax, [nic]
        mov al, bl
        pop ebx
        jmp pci_read

; Look for a card of the table `drivers`, on bus 0 and on those behind bridges. `driver` is 0 if there is none.
nic_find:
        mov ebx, 1 << 31
.function:
        mov eax, ebx
        call pci_read                   ; vendor and device
        cmp ax, 0xFFFF
        je .next_device
        mov si, drivers
.compare:
        cmp eax, [si]
        je .found
        add si, DRIVER_BYTES
        cmp si, drivers_end
        jb .compare
        mov eax, ebx
        mov al, 0x0C
        call pci_read
        shr eax, 16                     ; AL: header type
        mov dl, al
        and al, 0x7F
        cmp al, 1
        jne .not_a_bridge
        mov eax, ebx
        mov al, 0x18
        call pci_read
        shr eax, 16                     ; AL: the last bus behind this bridge
        cmp al, [last_bus]
        jbe .not_a_bridge
        mov [last_bus], al
.not_a_bridge:
        test bh, 7
        jnz .next_function
        test dl, 0x80                   ; has more functions
        jnz .next_function
.next_device:
        test bh, 7
        jnz .next_function
        add ebx, 7 << 8
.next_function:
        add ebx, 1 << 8
        test ebx, 1 << 24               ; behind bus 255
        jnz .none
        mov eax, ebx
        shr eax, 16
        cmp al, [last_bus]
        jbe .function
.none:  ret
.found: mov [nic], ebx
        mov [driver], si
        ret

; Memory, ports and DMA on, INTx not disabled.
nic_enable:
        mov al, 4
        call nic_read
        and eax, ~(1 << 10) & 0xFFFF    ; the status, in the upper half, is cleared by ones
        or al, 7
        mov dx, 0xCFC                   ; 0xCF8 still has the address
        out dx, eax
        ret

; AL: number of a base address register; EAX: the memory address or port. Carry: none below 4 GiB.
nic_bar:
        push ebx
        push edx
        mov bl, al
        shl bl, 2
        add bl, 0x10
        mov al, bl
        call nic_read
        test al, 1
        jnz .port
        mov edx, eax
        and al, 6
        cmp al, 4                       ; 64 bits wide
        jne .low
        mov al, bl
        add al, 4
        call nic_read
        test eax, eax
        jnz .unreachable
.low:   mov eax, edx
        and eax, ~0xF
        jz .unreachable
        jmp .done                       ; AND cleared the carry
.port:  and eax, 0xFFFC
        jnz .done
.unreachable:
        stc
.done:  pop edx
        pop ebx
        ret

        align 4
nic:            dd 0
last_bus:       db 0
